"""Networks of timm and Transformers: stored by the function that builds them, compressed, exported, loaded again."""

import sys

import numpy as np
import pytest
import torch
from tests_support import SMALL_RESNET, TRANSFORMERS
from torch import nn

import nasbench as nb
from benchmarks.no_torchvision import without_torchvision
from nasbench.models.outside import known_inputs, task_of
from nasbench_compression import Context
from nasbench_registry import UserError

with without_torchvision():
    import timm

SWIN = {
    "architecture": "SwinForImageClassification",
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 4],
    "window_size": 4,
    "num_labels": 10,
}
TIMM = {"model_name": "mobilenetv3_small_050", "num_classes": 10}


@pytest.fixture(scope="module")
def mobile():
    torch.manual_seed(0)
    return timm.create_model(**TIMM).eval()


def test_timm_says_what_its_networks_take(mobile):
    known = known_inputs(mobile)
    assert known.shape == (3, 224, 224) and len(known.mean) == len(known.std) == 3
    assert task_of(mobile).to_json() == {"input_shape": [3, 224, 224], "classes": 10}
    assert known_inputs(nn.Linear(2, 2)).shape is None


def test_a_network_of_timm_is_halved_saved_and_loaded_without_a_problem(mobile, tmp_path):
    images = torch.randn(2, 3, 64, 64)
    small = nb.compress(mobile, [nb.Prune(macs_ratio=0.5)], example=images, build="timm:create_model", options=TIMM)
    expected = small.predict(images)
    small.save(tmp_path / "small")
    loaded = nb.load(tmp_path / "small")
    np.testing.assert_array_equal(loaded.predict(images), expected)
    assert loaded.export("onnxruntime").predict(images) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(UserError, match="quantize, with these options, needs .*give calibration"):
        loaded.compress(["quantize"])


def test_a_network_of_transformers_goes_the_whole_way(tmp_path):
    digits = nb.image_classification("digits", epochs=1)
    from nasbench.models.outside import transformers

    network = transformers(**SMALL_RESNET)
    recipe = [nb.Prune(macs_ratio=0.5, epochs=1), nb.Distill(epochs=1), nb.Quantize("int8")]
    small = nb.compress(network, recipe, problem=digits, build=TRANSFORMERS, options=SMALL_RESNET)
    assert [report["stage"] for report in small.reports] == ["pruned", "distilled", "quantized"]
    assert all(0 <= report["val_acc_pct"] <= 100 for report in small.reports)
    artefact = small.export("onnxruntime")
    artefact.save(tmp_path / "artefact")
    small.save(tmp_path / "small")
    images = digits.examples(4)
    logits = nb.load(tmp_path / "small").predict(images)["logits"]
    assert logits.shape == (4, 10)
    again = nb.load(tmp_path / "artefact").predict(images)
    again = again["logits"] if isinstance(again, dict) else again
    assert np.abs(again - logits).max() < 0.1 * np.abs(logits).max()


def test_a_loaded_model_knows_what_it_is_for(tmp_path):
    from nasbench.models.outside import transformers

    digits = nb.image_classification("digits", epochs=1, batch_size=32)
    nb.save(tmp_path / "whole", transformers(**SMALL_RESNET), build=TRANSFORMERS, options=SMALL_RESNET, problem=digits)
    recipe = [nb.Prune(macs_ratio=0.5, epochs=1), nb.Quantize("int8")]
    whole = nb.load(tmp_path / "whole")
    small, same = whole.compress(recipe), whole.compress(recipe, problem=digits)
    assert whole.problem is None and small.problem == digits
    assert small.reports == same.reports and [report["stage"] for report in small.reports] == ["pruned", "quantized"]
    small.save(tmp_path / "small")
    np.testing.assert_array_equal(
        nb.load(tmp_path / "small").predict(digits.examples(2))["logits"], small.predict(digits.examples(2))["logits"]
    )

    description = tmp_path / "whole" / "model.json"
    description.write_text(description.read_text().replace('"name": "digits"', '"name": "didgits"'))
    lost = nb.load(tmp_path / "whole")
    assert lost.compress([nb.Prune(ratio=0.5)]).problem is None  # which needs no data
    with pytest.raises(UserError, match="didgits"):
        lost.compress([nb.Prune(ratio=0.5, epochs=1)])


def test_what_a_network_takes_has_to_be_known(tmp_path):
    with pytest.raises(UserError, match="what a Linear takes is not known; give an example"):
        nb.save(tmp_path, nn.Linear(3, 2), build="torch.nn:Linear", options={"in_features": 3, "out_features": 2})
    with pytest.raises(UserError, match=r"a Linear does not run on inputs of shape \(4,\)"):
        nb.save(tmp_path, nn.Linear(3, 2), example=torch.zeros(1, 4))
    with pytest.raises(UserError, match="give a batch of inputs"):
        task_of(nn.Linear(3, 2), torch.zeros(3))
    with pytest.raises(UserError, match="gives no tensor with one entry for each input"):
        task_of(nn.Flatten(0), torch.zeros(1, 3))


def test_a_network_that_does_not_fit_its_problem():
    digits = nb.image_classification("digits")
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
    with pytest.raises(UserError, match="gives 7 for each input, and the data want 10.*num_classes"):
        nb.compress(network, [nb.Prune(ratio=0.5)], problem=digits)
    with pytest.raises(UserError, match=r"does not run on the data, inputs of shape \(1, 8, 8\)"):
        nb.compress(nn.Linear(5, 10), [nb.Prune(ratio=0.5)], problem=digits)
    with pytest.raises(UserError, match="leave out example"):
        nb.compress(network, [nb.Prune(ratio=0.5)], problem=digits, example=torch.zeros(1, 1, 8, 8))


def test_functions_that_build_nothing(tmp_path, monkeypatch):
    (tmp_path / "lacking.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    cases = {
        ("lacking:create", ()): "importing 'lacking' needs the module 'no_such_library', which is not installed",
        ("torch.nn:Linear", (("in_featurs", 3),)): "fails: TypeError: .*in_featurs",
        (
            TRANSFORMERS,
            (("architecture", "ViTForImageClasification"),),
        ): "it has for example .*ViTForImageClassification",
        ("math:sqrt", (("x", 4),)): "fails: TypeError",
        ("builtins:dict", ()): "gives a dict, and not a torch.nn.Module",
    }
    from nasbench.models.build import FunctionBuild

    for (function, options), words in cases.items():
        with pytest.raises(UserError, match=words):
            FunctionBuild(function, dict(options)).call()
    sys.modules.pop("lacking", None)


def test_window_attention_is_left_whole_with_the_reason():
    """Swin: a table of relative positions has a column for each head, so heads stay; what is around them goes."""
    from nasbench.models.outside import transformers

    torch.manual_seed(0)
    network = transformers(**SWIN).eval()
    images = torch.rand(2, 3, 32, 32)
    small, note = nb.Prune(ratio=0.5, heads=True).apply(network, Context(images))
    attentions = [f"swin.encoder.layers.{stage}.blocks.0.attention.{name}_proj" for stage in (0, 1) for name in "qkv"]
    assert all("scaled_dot_product_attention" in note["left_out"][name] for name in attentions)
    assert note["channels"][1] == note["channels"][0] / 2
    assert small(images).logits.shape == (2, 10)
    restored = nb.Prune(ratio=0.5, heads=True).restore(transformers(**SWIN), note)
    restored.load_state_dict(small.state_dict())
    torch.testing.assert_close(restored.eval()(images).logits, small(images).logits)
