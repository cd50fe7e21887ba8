"""Networks of other libraries become elastic."""

import torch

import nasbench as nb
from benchmarks.no_torchvision import without_torchvision


def test_a_transformer_of_timm_is_elastic_in_heads_and_blocks(digits, tmp_path):
    with without_torchvision():
        import timm

        options = {"in_chans": 1, "num_classes": 10, "img_size": 8, "patch_size": 4, "depth": 2, "embed_dim": 48}
        network = timm.create_model("vit_tiny_patch16_224", **options).eval()
        elastic = nb.elastic(
            network,
            digits,
            build="timm:create_model",
            options={"model_name": "vit_tiny_patch16_224", **options},
        )
        chosen = elastic.space.choices(elastic.smallest)
        assert chosen["blocks.0"] == "left out" and len(elastic.divisible.blocks) == 2
        heads = next(group for group in elastic.divisible.groups if group.layer == "blocks.0.attn.qkv")
        assert heads.share == 48 // 3, "heads go as wholes"
        part = elastic.space.architecture([0] * len(chosen) + [1] * (len(elastic.space.decisions) - len(chosen)))
        model = elastic.extract(part)
        loaded = nb.load(model.save(tmp_path / "part"))
        images = digits.examples(4)
        with torch.no_grad():
            assert torch.equal(loaded.network(images), model.network(images))
            assert not torch.equal(model.network(images), network(images))
