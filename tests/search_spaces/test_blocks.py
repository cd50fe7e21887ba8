"""The zoo of block modules: what every block owes to a chain, and what each owes to its paper."""

import copy
import itertools
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.costs.cost import cost
from nasbench.models import load_model, save_model
from nasbench.models.build import SpaceBuild
from nasbench_compression import Context, get_backend, get_step
from nasbench_compression.compilation.onnx_export import _shape_operators
from nasbench_compression.quantization.modules import is_quantized
from nasbench_compression.reparameterization import reparameterize
from nasbench_registry import UserError
from search_spaces import Task, get_space
from search_spaces.blocks import BLOCKS, Block, get_block
from search_spaces.blocks.convnext import ConvNeXt
from search_spaces.blocks.convolution import convolution, grouped_convolution
from search_spaces.blocks.depthwise_separable import depthwise_separable
from search_spaces.blocks.fire import Fire
from search_spaces.blocks.ghost_module import GhostModule
from search_spaces.blocks.inverted_residual import (
    fused_inverted_residual,
    inverted_residual,
    inverted_residual_se,
)
from search_spaces.blocks.layers import ChannelNorm, SqueezeExcitation, conv_bn
from search_spaces.blocks.repvgg import RepVGG
from search_spaces.blocks.resnet import resnet_basic, resnet_bottleneck, resnext
from search_spaces.blocks.shuffle_unit import ShuffleUnit
from search_spaces.blocks.transformer_encoder import ScaledDotProductAttention, TransformerEncoder, TransformerOnMap

every = pytest.mark.parametrize("name", BLOCKS)
reshaping = pytest.mark.parametrize("name", [name for name, block in BLOCKS.items() if block.reshapes])
ONNX_MISSING = get_backend("onnxruntime").why_unavailable()
needs_onnx = pytest.mark.skipif(ONNX_MISSING is not None, reason=str(ONNX_MISSING))


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """In place: weights and statistics under which every branch, norm and scale does something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
            elif name.endswith("bias"):
                parameter.uniform_(-0.5, 0.5, generator=generator)
            else:
                parameter.uniform_(0.5, 1.5, generator=generator)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.2, generator=generator)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
    return model


def network(block: Block, channels: int = 1) -> nn.Module:
    """A stem, the block without and with a change of shape, a head: (n, channels, h, w) -> (n, 10)."""
    outputs, stride = (24, 2) if block.reshapes else (16, 1)
    return nn.Sequential(
        conv_bn(channels, 16, 3, activation=nn.ReLU),
        block(16, 16, kernel=3),
        block(16, outputs, kernel=5, stride=stride),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(outputs, 10),
    )


def context(images: torch.Tensor) -> Context:
    return Context(
        example_inputs=images[:2], calibration=images, finetune=no_training, evaluate=lambda model: 0.0, seed=0
    )


def no_training(*args, **kwargs) -> None:
    raise AssertionError("nothing here is to be trained")


class TestEveryBlock:
    @every
    def test_shapes(self, name) -> None:
        block = BLOCKS[name]
        widths = [(8, 8), (16, 24), (24, 16), (8, 40)] if block.reshapes else [(8, 8), (24, 24)]
        strides = (1, 2) if block.reshapes else (1,)
        for (inputs, outputs), stride, kernel in itertools.product(widths, strides, (1, 3, 5, 7)):
            module = block(inputs, outputs, kernel=kernel, stride=stride).eval()
            for h, w in ((1, 1), (1, 6), (5, 9), (8, 8)):
                with torch.no_grad():
                    out = module(torch.randn(2, inputs, h, w))
                expected = (2, outputs, -(-h // stride), -(-w // stride))
                assert out.shape == expected, f"{inputs}->{outputs}, kernel {kernel}, stride {stride}, {h}x{w}"

    @every
    @pytest.mark.parametrize("size", [(9, 9), (1, 1)], ids=["9x9", "1x1"])
    def test_every_parameter_learns(self, name, size) -> None:
        block = BLOCKS[name]
        for outputs, stride in ((16, 1), (24, 2)) if block.reshapes else ((16, 1),):
            module = block(16, outputs, kernel=5, stride=stride).train()
            # Four images, so that batch norm has something to compare where there is a single pixel.
            module(torch.randn(4, 16, *size, requires_grad=True)).square().mean().backward()
            wrong = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
            assert wrong == []

    @every
    def test_channels_last_is_the_same_forward_and_backward(self, name) -> None:
        block = BLOCKS[name]
        for outputs, stride in ((16, 1), (24, 2)) if block.reshapes else ((16, 1),):
            module = randomized(block(16, outputs, kernel=3, stride=stride)).train()
            images = torch.randn(4, 16, 7, 6, generator=torch.Generator().manual_seed(0))
            channels_last = copy.deepcopy(module).to(memory_format=torch.channels_last)
            results = []
            for model, layout in ((module, torch.contiguous_format), (channels_last, torch.channels_last)):
                inputs = images.clone(memory_format=layout).requires_grad_()
                out = model(inputs)
                # Each output counts differently: the plain sum of squares behind a batch norm has no gradient.
                (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
                results.append([out.detach(), inputs.grad, *(parameter.grad for parameter in model.parameters())])
            for contiguous, last in zip(*results, strict=True):
                scale = float(contiguous.abs().max())
                torch.testing.assert_close(last, contiguous, atol=1e-4 * max(scale, 1.0), rtol=0)

    @every
    def test_every_input_channel_matters(self, name) -> None:
        module = randomized(BLOCKS[name](16, 16, kernel=3)).eval()
        images = torch.randn(1, 16, 5, 5, requires_grad=True)
        module(images).square().sum().backward()
        assert (images.grad.abs().amax((0, 2, 3)) > 0).all()

    @needs_onnx
    @every
    def test_onnx_runtime_computes_the_same(self, name) -> None:
        model = randomized(network(BLOCKS[name])).eval()
        images = torch.randn(5, 1, 9, 7, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = model(images).numpy()
        compiled = get_backend("onnxruntime").compile(model, images[:1])
        np.testing.assert_allclose(compiled(images.numpy()), expected, atol=1e-5 * np.abs(expected).max())
        assert _shape_operators(compiled.artefact) == 0  # else the slower exporter is tried on every candidate

    @needs_onnx
    @every
    def test_onnx_runtime_runs_it_in_int8(self, name) -> None:
        model = randomized(network(BLOCKS[name])).eval()
        images = torch.randn(32, 1, 9, 7, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = model(images).numpy()
        outputs = get_backend("onnxruntime").compile(model, images[:1], "int8", images)(images.numpy())
        # 8 bits are 0.4 % of the range a layer; a dozen layers add up.
        assert np.abs(outputs - expected).max() < 0.1 * np.abs(expected).max()

    @every
    def test_quantize_restores_its_structure(self, name) -> None:
        model = randomized(network(BLOCKS[name])).eval()
        images = torch.randn(32, 1, 9, 7, generator=torch.Generator().manual_seed(1))
        step = get_step("quantize")
        quantized, note = step.apply(model, context(images))
        assert note["left_float"] == {}
        restored = step.restore(network(BLOCKS[name]).eval(), note)
        restored.load_state_dict(quantized.state_dict())
        with torch.no_grad():
            assert torch.equal(restored(images), quantized(images))
            error = (quantized(images) - model(images)).abs().max() / model(images).abs().max()
        assert error < 0.1

    @every
    def test_prune(self, name) -> None:
        model = randomized(network(BLOCKS[name])).eval()
        images = torch.randn(8, 1, 9, 7)
        step = get_step("prune", ratio=0.4)
        pruned, note = step.apply(model, context(images))
        assert note["params"][1] < 0.9 * note["params"][0]
        restored = step.restore(network(BLOCKS[name]).eval(), note)
        restored.load_state_dict(pruned.state_dict())
        with torch.no_grad():
            assert torch.equal(restored(images), pruned(images))
            assert pruned(images).isfinite().all()

    @reshaping
    def test_numbers_that_no_block_can_have(self, name) -> None:
        if BLOCKS[name].has_kernel:
            with pytest.raises(UserError, match="kernel 4 is even"):
                BLOCKS[name](8, 8, kernel=4)

    def test_the_identity_reshapes_nothing(self) -> None:
        for inputs, outputs, stride in ((8, 16, 1), (8, 8, 2)):
            with pytest.raises(UserError, match=f"from {inputs} to {outputs} channels with stride {stride}"):
                BLOCKS["identity"](inputs, outputs, stride=stride)
            with pytest.raises(UserError, match=f"from {inputs} to {outputs} channels with stride {stride}"):
                BLOCKS["identity"].make(inputs, outputs, stride=stride)

    @every
    def test_listing(self, name) -> None:
        block = BLOCKS[name]
        assert 5 < len(block.summary) < 100 and "\n" not in block.summary
        assert block.source


def kinds(module: nn.Module) -> list[str]:
    return [type(part).__name__ for part in module.modules() if not list(part.children())]


class TestFamilies:
    @pytest.mark.parametrize(
        ("inputs", "outputs", "groups"), [(8, 8, 2), (16, 24, 4), (32, 64, 8), (8, 24, 2), (64, 64, 8), (3, 8, 1)]
    )
    def test_groups_of_a_grouped_convolution(self, inputs, outputs, groups) -> None:
        assert grouped_convolution(inputs, outputs)[0].groups == groups
        assert grouped_convolution(32, 32, groups=16)[0].groups == 16
        with pytest.raises(UserError, match="5 groups do not divide"):
            grouped_convolution(32, 32, groups=5)

    @pytest.mark.parametrize("make", [inverted_residual, inverted_residual_se, fused_inverted_residual])
    def test_an_expansion_of_one_has_no_expansion_convolution(self, make) -> None:
        counts = [kinds(make(16, 16, expansion=expansion)).count("Conv2d") for expansion in (1, 4)]
        assert counts[0] == counts[1] - 1

    def test_shortcuts_of_residual_blocks(self) -> None:
        for make in (resnet_basic, resnet_bottleneck, resnext):
            assert "Identity" in kinds(make(16, 16))
            for changed in (make(16, 24), make(16, 16, stride=2)):
                assert isinstance(changed.shortcut[0], nn.Conv2d) and changed.shortcut[0].kernel_size == (1, 1)

    def test_bottlenecks_stride_in_the_middle(self) -> None:
        strides = [m.stride[0] for m in resnet_bottleneck(16, 32, stride=2).body.modules() if isinstance(m, nn.Conv2d)]
        assert strides == [1, 2, 1]

    def test_ghost_modules_that_cannot_be(self) -> None:
        assert GhostModule(8, 24, ratio=3)(torch.randn(2, 8, 4, 4)).shape == (2, 24, 4, 4)
        for ratio in (1, 5):
            with pytest.raises(UserError, match=f"not {ratio} for 24"):
                GhostModule(8, 24, ratio=ratio)

    def test_a_transformer_encoder_is_that_of_torch(self) -> None:
        ours = randomized(TransformerEncoder(32, 4, mlp_ratio=2)).eval()
        theirs = nn.TransformerEncoderLayer(
            32, 4, 64, dropout=0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        ).eval()
        parts = {
            "self_attn.in_proj_": ours.attention.qkv,
            "self_attn.out_proj.": ours.attention.project,
            "linear1.": ours.mlp[0],
            "linear2.": ours.mlp[2],
            "norm1.": ours.attention_norm,
            "norm2.": ours.mlp_norm,
        }
        state = {
            f"{prefix}{parameter}": getattr(layer, parameter)
            for prefix, layer in parts.items()
            for parameter in WEIGHTS
        }
        theirs.load_state_dict(state)
        tokens = torch.randn(3, 7, 32)
        with torch.no_grad():
            torch.testing.assert_close(ours(tokens), theirs(tokens), atol=1e-5, rtol=1e-5)

    def test_a_transformer_encoder_whose_heads_do_not_fill_the_width(self) -> None:
        encoder = TransformerEncoder(48, 3, mlp_ratio=1.5, head_width=64)
        assert encoder.attention.qkv.out_features == 3 * 3 * 64
        assert encoder.mlp[0].out_features == 72
        assert encoder(torch.randn(2, 5, 48)).shape == (2, 5, 48)
        with pytest.raises(UserError, match="not width 4, 8 heads of 0 channels"):
            TransformerEncoder(4, 8)

    def test_heads_on_a_map(self) -> None:
        assert [TransformerOnMap(w, w).encoder.attention.heads for w in (8, 64, 72, 192)] == [1, 1, 1, 3]
        assert TransformerOnMap(64, 64, heads=4).encoder.attention.heads == 4
        assert sum(isinstance(m, ScaledDotProductAttention) for m in TransformerOnMap(8, 8).modules()) == 1

    def test_patches_are_padded_below_and_to_the_right(self) -> None:
        project = TransformerOnMap(1, 1, stride=2).project
        nn.init.ones_(project[1].weight)
        nn.init.zeros_(project[1].bias)
        image = torch.arange(1.0, 10).view(1, 1, 3, 3)
        assert project(image).tolist() == [[[[1 + 2 + 4 + 5, 3 + 6], [7 + 8, 9]]]]


WEIGHTS = ("weight", "bias")


class TestReparameterization:
    @pytest.mark.parametrize("kernel", [1, 3, 5])
    @pytest.mark.parametrize(
        ("inputs", "outputs", "stride", "groups"), [(16, 16, 1, 1), (16, 16, 1, 4), (16, 24, 1, 2), (8, 8, 2, 1)]
    )
    def test_one_convolution_computes_the_same(self, inputs, outputs, stride, groups, kernel) -> None:
        block = randomized(RepVGG(inputs, outputs, kernel=kernel, stride=stride, groups=groups)).eval()
        before = copy.deepcopy(block.state_dict())
        folded = block.reparameterize()
        assert kinds(folded) == ["Conv2d", "ReLU"]
        images = torch.randn(4, inputs, 9, 7)
        with torch.no_grad():
            torch.testing.assert_close(folded(images), block(images), atol=1e-5, rtol=1e-5)
        assert all(torch.equal(tensor, before[key]) for key, tensor in block.state_dict().items())
        assert folded[0].weight.data_ptr() != block.dense[0].weight.data_ptr()

    def test_type_device_mode_and_generator_stay(self) -> None:
        block = RepVGG(8, 8).double().train()
        block.requires_grad_(False)
        state = torch.get_rng_state()
        folded = block.reparameterize()
        assert torch.equal(torch.get_rng_state(), state)
        assert folded[0].weight.dtype == folded[0].bias.dtype == torch.float64
        assert folded.training and not folded[0].weight.requires_grad
        assert RepVGG(8, 8).to("meta").reparameterize()[0].weight.device.type == "meta"

    @pytest.mark.parametrize("branch", ["dense", "pointwise", "shortcut"])
    def test_a_branch_that_was_replaced_stays(self, branch) -> None:
        block = randomized(RepVGG(8, 8)).eval()
        if branch == "shortcut":
            block.shortcut = nn.BatchNorm2d(8, affine=False).eval()
        else:
            getattr(block, branch)[0] = nn.Sequential(getattr(block, branch)[0])
        folded = block.reparameterize()
        assert type(folded) is RepVGG and folded is not block
        images = torch.randn(2, 8, 5, 5)
        with torch.no_grad():
            assert torch.equal(folded(images), block(images))

    def test_a_network(self) -> None:
        model = randomized(network(BLOCKS["repvgg"])).eval()
        model[1].train()
        folded = reparameterize(model)
        assert not any(isinstance(module, RepVGG) for module in folded.modules())
        assert isinstance(model[1], RepVGG) and model[1].training and folded[1].training and not folded[2].training
        assert folded[0] is not model[0]
        model.eval(), folded.eval()
        images = torch.randn(4, 1, 9, 7)
        with torch.no_grad():
            torch.testing.assert_close(folded(images), model(images), atol=1e-5, rtol=1e-5)

    def test_a_network_without_branches_is_itself(self) -> None:
        model = network(BLOCKS["convolution"])
        assert reparameterize(model) is model

    def test_the_network_itself_and_shared_modules(self) -> None:
        block = RepVGG(8, 8)
        assert kinds(reparameterize(block)) == ["Conv2d", "ReLU"]
        shared = reparameterize(nn.Sequential(block, nn.Identity(), block))
        assert shared[0] is shared[2] and kinds(shared[0]) == ["Conv2d", "ReLU"]

    def test_inside_of_what_cannot_be_simplified(self) -> None:
        class Whole(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.block = RepVGG(8, 8)

            def reparameterize(self) -> nn.Module:
                return copy.deepcopy(self)

        assert kinds(reparameterize(Whole())) == ["Conv2d", "ReLU"]

    def test_a_method_that_works_in_place(self) -> None:
        class InPlace(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Sequential(nn.Identity(), nn.ReLU())

            def reparameterize(self) -> None:
                self.layer = nn.ReLU()

        model = nn.Sequential(InPlace())
        assert kinds(reparameterize(model)) == ["ReLU"]
        assert kinds(model) == ["Identity", "ReLU"]

    def test_a_method_that_returns_something_else(self) -> None:
        class Wrong(nn.Module):
            def reparameterize(self) -> bool:
                return True

        with pytest.raises(UserError, match="Wrong.reparameterize.. returned True; it must return the module"):
            reparameterize(nn.Sequential(Wrong()))

    @pytest.mark.parametrize("backend", ["eager", pytest.param("onnxruntime", marks=needs_onnx)])
    @pytest.mark.parametrize("precision", ["fp32", "int8"])
    def test_compiled_networks_are_folded(self, backend, precision) -> None:
        model = randomized(network(BLOCKS["repvgg"])).eval()
        images = torch.randn(32, 1, 9, 7, generator=torch.Generator().manual_seed(1))
        names = list(model.state_dict())
        compiled = get_backend(backend).compile(model, images[:1], precision, images)
        assert list(model.state_dict()) == names
        operators = compiled.describe()["operators"]
        assert sum(count for kind, count in operators.items() if "Conv" in kind) == 3
        assert "Add" not in operators
        with torch.no_grad():
            expected = model(images).numpy()
        tolerance = 1e-5 if precision == "fp32" else 0.1
        assert np.abs(compiled(images.numpy()) - expected).max() < tolerance * np.abs(expected).max()

    @pytest.mark.parametrize("recipe", ["quantize", "prune", "decompose", "prune, quantize", "decompose, quantize"])
    def test_saved_and_loaded(self, recipe, tmp_path) -> None:
        options = {"widths": [16, 32], "layers": 2, "blocks": ["repvgg", "convolution"]}
        space, task = get_space("mobile", **options), Task((1, 8, 8), 10)
        arch = space.parse("repvgg_k3_w1.0-repvgg_k5_w1.0/repvgg_k3_w1.0-convolution_k3_w1.0")
        model: nn.Module = randomized(space.build(arch, task)).eval()
        images = torch.randn(16, 1, 8, 8)
        steps = []
        for name in recipe.split(", "):
            step = get_step(name, **({} if name == "quantize" else {"ratio": 0.5}))
            model, note = step.apply(model, context(images))
            steps.append((step, note))
        save_model(tmp_path, model, build=SpaceBuild("mobile", options, arch), task=task, steps=steps)
        stored = load_model(tmp_path).model
        assert is_quantized(stored) == ("quantize" in recipe)
        # Both steps fold the branches first; pruning leaves them, for it is followed by fine-tuning.
        folded = "quantize" in recipe or "decompose" in recipe
        assert any(isinstance(module, RepVGG) for module in stored.modules()) != folded
        with torch.no_grad():
            torch.testing.assert_close(stored(images), model(images), atol=1e-6, rtol=0)
        if ONNX_MISSING is None and folded and "decompose" not in recipe:
            compiled = get_backend("onnxruntime").compile(stored, images[:1], "int8", images)
            assert compiled.describe()["operators"]["Conv"] == 5  # the stem and one for each layer

    def test_costs_are_those_of_the_folded_network(self) -> None:
        model, task = network(BLOCKS["repvgg"]), Task((1, 8, 8), 10)
        assert cost(model, task) == cost(reparameterize(model), task)
        assert cost(model, task).params < sum(p.numel() for p in model.parameters())


class TestNames:
    @pytest.fixture
    def module(self, monkeypatch):
        def plain(inputs, outputs, *, kernel, stride):
            """One convolution.

            And more.
            """
            return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)

        def kernelless(inputs, outputs, *, stride):
            return nn.Conv2d(inputs, outputs, 1, stride)

        def wrong(inputs):
            return nn.Identity()

        module = types.ModuleType("blocks_of_a_user")
        module.plain, module.kernelless, module.wrong, module.number = plain, kernelless, wrong, 7
        module.ready = Block(make=plain, summary="ready", source="here")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return module

    def test_ours(self) -> None:
        assert all(get_block(name) is block for name, block in BLOCKS.items())

    def test_a_users_own(self, module) -> None:
        assert get_block("blocks_of_a_user:ready") is module.ready
        block = get_block("blocks_of_a_user:plain")
        assert (block.summary, block.has_kernel, block.reshapes) == ("One convolution.", True, True)
        assert block(8, 16, kernel=5, stride=2)(torch.randn(1, 8, 5, 5)).shape == (1, 16, 3, 3)
        block = get_block("blocks_of_a_user:kernelless")
        assert (block.summary, block.has_kernel) == ("blocks_of_a_user:kernelless", False)
        assert block(8, 16, kernel=5, stride=2)(torch.randn(1, 8, 5, 5)).shape == (1, 16, 3, 3)

    def test_of_an_installed_package(self, module, monkeypatch) -> None:
        from importlib.metadata import EntryPoint

        from nasbench_registry import registry

        point = EntryPoint("theirs", "blocks_of_a_user:plain", "nasbench.blocks")
        monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
        assert get_block("theirs").summary == "One convolution."
        with pytest.raises(UserError, match="Did you mean 'theirs'"):
            get_block("their")

    def test_errors(self, module) -> None:
        with pytest.raises(UserError, match="unknown block 'convolutoin'.*Did you mean 'convolution'"):
            get_block("convolutoin")
        with pytest.raises(UserError, match="there is no module 'nowhere'"):
            get_block("nowhere:block")
        with pytest.raises(
            UserError, match="unknown block 'plane' in module 'blocks_of_a_user'; known: .*mean 'plain'"
        ) as caught:
            get_block("blocks_of_a_user:plane")
        assert "number" not in str(caught.value)
        with pytest.raises(UserError, match="is 7; it must be"):
            get_block("blocks_of_a_user:number")
        with pytest.raises(UserError, match="cannot be called as block"):
            get_block("blocks_of_a_user:wrong")


def head(channels: int, *, hidden: list[nn.Module] | None = None) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *(hidden or []), nn.Linear(channels, 1000)]


def mobilenet_v1() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 32, 3, stride=2, activation=nn.ReLU)]
    inputs = 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for outputs, stride in plan:
        layers.append(depthwise_separable(inputs, outputs, stride=stride))
        inputs = outputs
    return nn.Sequential(*layers, *head(1024))


def mobilenet_v2() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 32, 3, stride=2, activation=nn.ReLU6)]
    inputs = 32
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, outputs, repeats, stride in plan:
        for index in range(repeats):
            layers.append(inverted_residual(inputs, outputs, stride=stride if index == 0 else 1, expansion=expansion))
            inputs = outputs
    return nn.Sequential(*layers, conv_bn(320, 1280, activation=nn.ReLU6), *head(1280))


def mobilenet_v3_large() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 16, 3, stride=2, activation=nn.Hardswish)]
    inputs = 16
    plan = [  # kernel, hidden channels, outputs, squeeze-and-excitation, activation, stride
        (3, 16, 16, False, nn.ReLU, 1),
        (3, 64, 24, False, nn.ReLU, 2),
        (3, 72, 24, False, nn.ReLU, 1),
        (5, 72, 40, True, nn.ReLU, 2),
        (5, 120, 40, True, nn.ReLU, 1),
        (5, 120, 40, True, nn.ReLU, 1),
        (3, 240, 80, False, nn.Hardswish, 2),
        (3, 200, 80, False, nn.Hardswish, 1),
        (3, 184, 80, False, nn.Hardswish, 1),
        (3, 184, 80, False, nn.Hardswish, 1),
        (3, 480, 112, True, nn.Hardswish, 1),
        (3, 672, 112, True, nn.Hardswish, 1),
        (5, 672, 160, True, nn.Hardswish, 2),
        (5, 960, 160, True, nn.Hardswish, 1),
        (5, 960, 160, True, nn.Hardswish, 1),
    ]
    for kernel, hidden, outputs, squeezes, activation, stride in plan:
        options = {"kernel": kernel, "stride": stride, "expansion": hidden / inputs}
        layers.append(
            inverted_residual_se(inputs, outputs, activation=activation, **options)
            if squeezes
            else inverted_residual(inputs, outputs, **options)  # another activation costs as much
        )
        inputs = outputs
    hidden = [nn.Linear(960, 1280), nn.Hardswish()]
    return nn.Sequential(*layers, conv_bn(160, 960, activation=nn.Hardswish), *head(1280, hidden=hidden))


def efficientnet_v2_s() -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 24, 3, stride=2, activation=nn.SiLU)]
    inputs = 24
    for expansion, outputs, repeats, stride in [(1, 24, 2, 1), (4, 48, 4, 2), (4, 64, 4, 2)]:
        for index in range(repeats):
            layers.append(
                fused_inverted_residual(inputs, outputs, stride=stride if index == 0 else 1, expansion=expansion)
            )
            inputs = outputs
    for expansion, outputs, repeats, stride in [(4, 128, 6, 2), (6, 160, 9, 1), (6, 256, 15, 2)]:
        for index in range(repeats):
            layers.append(
                inverted_residual_se(
                    inputs,
                    outputs,
                    stride=stride if index == 0 else 1,
                    expansion=expansion,
                    activation=nn.SiLU,
                    squeeze=inputs // 4,
                    squeeze_activation=nn.SiLU,
                    gate=nn.Sigmoid,
                )
            )
            inputs = outputs
    return nn.Sequential(*layers, conv_bn(256, 1280, activation=nn.SiLU), *head(1280))


def resnet(block, repeats: list[int], widths: list[int], **options) -> nn.Module:
    layers = [conv_bn(3, 64, 7, stride=2, activation=nn.ReLU), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, (count, outputs) in enumerate(zip(repeats, widths, strict=True)):
        for index in range(count):
            layers.append(block(inputs, outputs, stride=2 if stage > 0 and index == 0 else 1, **options))
            inputs = outputs
    return nn.Sequential(*layers, *head(inputs))


def squeezenet_1_1() -> nn.Module:
    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    fires = [Fire(a, b, batch_norm=False) for a, b in itertools.pairwise((64, 128, 128, 256, 256, 384, 384, 512, 512))]
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), *fires[:2], pool(), *fires[2:4], pool(), *fires[4:]),
        *(nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


def shufflenet_v2() -> nn.Module:
    layers = [conv_bn(3, 24, 3, stride=2, activation=nn.ReLU), nn.MaxPool2d(3, 2, 1)]
    inputs = 24
    for outputs, repeats in [(116, 4), (232, 8), (464, 4)]:
        for index in range(repeats):
            layers.append(ShuffleUnit(inputs, outputs, stride=2 if index == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, conv_bn(464, 1024, activation=nn.ReLU), *head(1024))


def convnext_tiny() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), ChannelNorm(96)]
    inputs = 96
    for outputs, repeats in [(96, 3), (192, 3), (384, 9), (768, 3)]:
        for _ in range(repeats):
            layers.append(ConvNeXt(inputs, outputs, stride=1 if inputs == outputs else 2))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(768), nn.Linear(768, 1000))


def repvgg_a0() -> nn.Module:
    layers: list[nn.Module] = [RepVGG(3, 48, stride=2)]
    inputs = 48
    for outputs, repeats in [(48, 2), (96, 4), (192, 14), (1280, 1)]:
        for index in range(repeats):
            layers.append(RepVGG(inputs, outputs, stride=2 if index == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, *head(1280))


class ViT(nn.Module):
    """ViT-B/16."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 768, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, 768))
        self.position = nn.Parameter(torch.zeros(1, 197, 768))
        self.layers = nn.Sequential(*(TransformerEncoder(768, 12) for _ in range(12)), nn.LayerNorm(768))
        self.head = nn.Linear(768, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1) + self.position
        return self.head(self.layers(tokens)[:, 0])


BASIC, WIDE = [64, 128, 256, 512], [256, 512, 1024, 2048]
# Where no other source is given: num_params and GFLOPS (which are multiply-adds) of the weights' page in the
# documentation of torchvision 0.2x, https://pytorch.org/vision/stable/models.html.
PUBLISHED = {
    # Parameters: "trainable" of keras.applications.MobileNet; MACs: table 4 of arXiv 1704.04861.
    "mobilenet_v1": (mobilenet_v1, 224, 4_231_976, 569e6),
    "mobilenet_v2": (mobilenet_v2, 224, 3_504_872, 0.301e9),
    "mobilenet_v3_large": (mobilenet_v3_large, 224, 5_483_032, 0.217e9),
    "efficientnet_v2_s": (efficientnet_v2_s, 384, 21_458_488, 8.366e9),
    "resnet18": (lambda: resnet(resnet_basic, [2, 2, 2, 2], BASIC), 224, 11_689_512, 1.814e9),
    "resnet50": (lambda: resnet(resnet_bottleneck, [3, 4, 6, 3], WIDE), 224, 25_557_032, 4.089e9),
    "resnext50_32x4d": (lambda: resnet(resnext, [3, 4, 6, 3], WIDE, cardinality=32), 224, 25_028_904, 4.23e9),
    "squeezenet1_1": (squeezenet_1_1, 224, 1_235_496, 0.349e9),
    "shufflenet_v2_x1_0": (shufflenet_v2, 224, 2_278_604, 0.145e9),
    "convnext_tiny": (convnext_tiny, 224, 28_589_128, 4.456e9),
    "vit_b_16": (ViT, 224, 86_567_656, 17.564e9),
}


def on_paper(make) -> nn.Module:
    """The network with memory for its weights but without the time to draw them."""
    with torch.device("meta"):
        model = make()
    return model.to_empty(device="cpu").requires_grad_(False).apply(zero)


def zero(module: nn.Module) -> None:
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        tensor.zero_()


class TestPublishedNetworks:
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_parameters_and_multiply_adds(self, name) -> None:
        make, size, params, macs = PUBLISHED[name]
        counted = cost(on_paper(make), Task((3, size, size), 1000))
        assert counted.params == params
        assert counted.macs == pytest.approx(macs, rel=0.01)

    def test_repvgg_as_it_is_deployed(self) -> None:
        """8.30 M parameters and 1.4 G multiply-adds in arXiv 2101.03697, rounded there."""
        model = on_paper(repvgg_a0)
        counted = cost(model, Task((3, 224, 224), 1000))
        assert counted.params == pytest.approx(8.30e6, rel=0.002)
        assert counted.macs == pytest.approx(1.4e9, abs=0.05e9)
        assert sum(parameter.numel() for parameter in model.parameters()) > 9e6  # the branches

    def test_squeeze_and_excitation_has_the_sizes_of_mobilenet_v3(self) -> None:
        hidden = [SqueezeExcitation(channels).gate[1].out_channels for channels in (16, 72, 120, 480, 672, 960)]
        assert hidden == [8, 24, 32, 120, 168, 240]

    def test_a_plain_convolution_is_one(self) -> None:
        assert kinds(convolution(8, 16)) == ["Conv2d", "BatchNorm2d", "ReLU"]
