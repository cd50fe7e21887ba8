"""Calibration, quantization-aware training, dynamic and weight-only int8, int4, and 16 bits."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from bounds import check_below
from compression_networks import PlainNet
from hypothesis import given, settings, strategies as st
from torch import nn

from nasbench_compression import Context, get_backend, get_step
from nasbench_compression.quantization.calibration import input_ranges
from nasbench_compression.quantization.cast import HalfNetwork
from nasbench_compression.quantization.dynamic import DynamicLinear
from nasbench_compression.quantization.modules import dequantize, is_quantized, is_reduced
from nasbench_compression.quantization.qat import FakeQuantized, put_fakes, take_out_fakes
from nasbench_compression.quantization.weight_only import WeightOnly, pack, quantize_groups, unpack
from nasbench_compression.step import count_bytes
from nasbench_registry import UserError

ONNX = get_backend("onnxruntime")
needs_onnx = pytest.mark.skipif(ONNX.why_unavailable() is not None, reason=str(ONNX.why_unavailable()))

METHODS = {
    "min_max": {},
    "percentile": {"calibration": "percentile"},
    "entropy": {"calibration": "entropy"},
    "qat": {"method": "qat", "epochs": 2, "learning_rate": 5e-4},
    "qat entropy": {"method": "qat", "calibration": "entropy", "learning_rate": 5e-4},
    "dynamic": {"method": "dynamic"},
    "weight_only": {"method": "weight_only"},
    "weight_only asymmetric": {"method": "weight_only", "symmetric": False, "group_size": 16},
    "int4": {"precision": "int4"},
    "int4 asymmetric": {"precision": "int4", "symmetric": False},
    "fp16": {"precision": "fp16"},
    "bf16": {"precision": "bf16"},
}
INTEGER = ("min_max", "percentile", "entropy", "qat", "qat entropy", "dynamic")


@pytest.mark.parametrize("method", METHODS)
def test_accuracy_of_the_network_and_of_its_artefact(method, trained, context, digits) -> None:
    quantized, note = get_step("quantize", **METHODS[method]).apply(trained, context)
    before = context.evaluate(trained)
    changed = abs(context.evaluate(quantized) - before)
    if method.startswith("int4"):
        check_below("points that int4 changes", changed, mean=1.2, sd=1.4, n=27, most=20)  # up to 7 were seen
    elif method.startswith("qat"):
        check_below("points that training changes", changed, mean=0.98, sd=0.98, n=27, most=10)
    else:
        check_below("points that it changes", changed, mean=0.066, sd=0.13, n=27, most=1.5)
    assert is_quantized(quantized) == (method in INTEGER) and is_reduced(quantized)
    assert note["method"] == get_step("quantize", **METHODS[method]).method
    back = dequantize(quantized)
    assert not is_reduced(back)
    assert sum(p.numel() for p in back.parameters()) <= sum(p.numel() for p in trained.parameters())


@needs_onnx
@pytest.mark.parametrize("network_name", ["plain", "residual"])
@pytest.mark.parametrize("method", METHODS)
def test_the_artefact_computes_what_the_network_does(method, trained, context, digits) -> None:
    quantized, _ = get_step("quantize", **METHODS[method]).apply(trained, context)
    precision = "int8" if is_quantized(quantized) else "fp32"
    compiled = ONNX.compile(quantized, context.example_inputs, precision, context.calibration)
    changed = abs(context.evaluate(compiled) - context.evaluate(quantized))
    check_below("points that the file changes", changed, mean=0.053, sd=0.11, n=27, most=1)
    if method not in INTEGER or method == "dynamic":  # nothing is rounded in the file that is not in the network
        with torch.no_grad():
            expected = quantized(digits.val_images[:100]).numpy()
        logits = compiled(digits.val_images[:100].numpy())
        np.testing.assert_allclose(logits, expected, atol=2e-2 if method == "dynamic" else 1e-4)
    operators = compiled.describe()["operators_optimized"]
    integer = sum(count for name, count in operators.items() if name.startswith(("QLinearConv", "QGemm", "Dynamic")))
    linear = sum(isinstance(module, nn.Linear) for module in trained.modules())
    convolutions = sum(isinstance(module, nn.Conv2d) for module in trained.modules())
    assert integer == (0 if method not in INTEGER else linear if method == "dynamic" else linear + convolutions)


class Feeding(nn.Module):
    """One layer that sees the images as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, x):
        return self.layer(x).flatten(1)


def range_of(values: torch.Tensor, calibration: str, percentile: float = 99.99) -> tuple[float, float]:
    model = Feeding()
    return input_ranges(model, values.view(-1, 1, 10, 10), calibration, percentile)[model.layer]


def test_percentile_leaves_out_that_share_at_either_end() -> None:
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    bin_width = float(values.max() - values.min()) / 2048
    for percentile in (99.0, 99.9):
        low, high = range_of(values, "percentile", percentile)
        expected = torch.quantile(values, torch.tensor([1 - percentile / 100, percentile / 100]))
        # The bin that holds the percentile has a few values of its own, and ends at most one bin after them.
        assert abs(low - expected[0]) <= 2 * bin_width and abs(high - expected[1]) <= 2 * bin_width
    low, high = range_of(values, "percentile", 100)
    assert abs(low - values.min()) < 1e-5 and abs(high - values.max()) < 1e-5
    zeros = torch.cat([torch.zeros(50_000), values.abs()[:50_000]])  # what ReLU gives
    low, high = range_of(zeros, "percentile", 99.9)
    assert low == 0 and 2.5 < high < 4


def test_entropy_clips_what_is_rare_and_far_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(100_000, generator=generator) * 3
    assert range_of(uniform, "entropy")[1] > 2.9
    normal = torch.randn(100_000, generator=generator)
    for values in (normal, normal.relu()):
        far = values.clone()
        far[:3] = 60.0
        low, high = range_of(far, "entropy")
        # Coarse steps of a range of 60 would lose more than three clipped values; a range of 2 would clip 5 %.
        assert 2 < high < 15 and (low < -2 if values is normal else low == 0)
        assert range_of(far, "min_max")[1] == 60
    assert range_of(torch.zeros(100), "entropy") == (0, 0)


@needs_onnx
@pytest.mark.parametrize("method", ["percentile", "qat"])
def test_the_artefact_has_the_ranges_and_the_weights_of_the_layers(method, plain, context) -> None:
    import onnx
    from onnx import numpy_helper

    options = {"percentile": {"calibration": "percentile", "percentile": 97.0}, "qat": {"method": "qat"}}[method]
    quantized, _ = get_step("quantize", **options).apply(plain, context)
    artefact = ONNX.compile(quantized, context.example_inputs, "int8", context.calibration).artefact
    graph = onnx.load_from_string(artefact).graph
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    layers = [module for module in quantized.modules() if hasattr(module, "weight_int8")]
    nodes = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(nodes) == len(layers) == 5
    for layer, node in zip(layers, nodes, strict=True):
        inputs, weight = (makers[name] for name in node.input[:2])
        assert constants[inputs.input[1]] == pytest.approx(float(layer.input_scale), rel=1e-5)
        assert int(constants[inputs.input[2]]) == int(layer.input_zero_point)
        assert np.array_equal(constants[weight.input[0]].reshape(layer.weight_int8.shape), layer.weight_int8.numpy())


def test_gradients_pass_straight_through_rounding() -> None:
    torch.manual_seed(0)
    layer = FakeQuantized(nn.Linear(6, 4), (-1.0, 1.0), moving=False)
    inputs = torch.tensor([[-2.0, -0.9, 0.0, 0.31, 0.9, 2.0]], requires_grad=True)
    layer(inputs).sum().backward()
    rounded = torch.fake_quantize_per_channel_affine(
        layer.layer.weight, layer.layer.weight.detach().abs().amax(1) / 127, torch.zeros(4).int(), 0, -127, 127
    )
    inside = torch.tensor([0.0, 1, 1, 1, 1, 0])  # what lies outside the range moves nothing
    torch.testing.assert_close(inputs.grad[0], inside * rounded.sum(0))
    # The gradient of each weight is the rounded input that it met.
    met = torch.tensor([-1.0, -0.9, 0.0, 0.31, 0.9, 1.0])
    torch.testing.assert_close(layer.layer.weight.grad, met.expand(4, 6), atol=2 / 255, rtol=0)


def test_what_was_trained_is_what_the_int8_layers_compute(plain, context, digits) -> None:
    recorded = {}

    def finetune(model, loss=None, *, epochs, learning_rate=None, on_batch=None):
        context.finetune(model, loss, epochs=epochs, learning_rate=learning_rate)
        recorded["logits"] = model(digits.val_images).detach()
        recorded["fakes"] = sum(isinstance(module, FakeQuantized) for module in model.modules())

    own = dataclasses.replace(context, finetune=finetune)
    quantized, note = get_step("quantize", method="qat", learning_rate=1e-3).apply(plain, own)
    assert recorded["fakes"] == 5 and not any(isinstance(module, FakeQuantized) for module in quantized.modules())
    error = (quantized(digits.val_images) - recorded["logits"]).abs()
    # A value on the border between two levels may fall on either side.
    assert error.mean() < 0.01 * recorded["logits"].abs().mean()  # float32 rounding is a millionth
    # Ranges moved with the batches, and the weights with the gradients.
    static = get_step("quantize").apply(plain, context)
    assert note["layers"]["classifier"]["high"] != static[1]["layers"]["classifier"]["high"]
    assert (quantized.hidden.weight_int8 != static[0].hidden.weight_int8).any()
    _, kept = get_step("quantize", method="qat", calibration="entropy").apply(plain, context)
    _, entropy = get_step("quantize", calibration="entropy").apply(plain, context)
    for layer, entry in entropy["layers"].items():
        assert kept["layers"][layer] == pytest.approx(entry, rel=1e-6)


def test_training_with_rounding_wins_back_what_rounding_costs(digits, context) -> None:
    """Ranges that clip almost everything leave a network that training has to adapt."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = PlainNet()
        context.finetune(model, epochs=4)
        narrow = {
            name: (0.0, 0.2)
            for name, module in model.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear) and name != "features.0"
        }
        rounding = put_fakes(copy.deepcopy(model), narrow, moving=False)
        before = context.evaluate(rounding)
        context.finetune(rounding, epochs=3)
    after = context.evaluate(rounding)
    whole = context.evaluate(model)
    assert whole - after < (whole - before) / 2
    _, ranges = take_out_fakes(rounding)
    assert ranges == {name: pytest.approx((0.0, 0.2)) for name in narrow}


def test_sparse_weights_stay_zero_while_rounding_is_trained(plain, context) -> None:
    sparse, _ = get_step("sparsify", sparsity=0.6).apply(plain, context)
    quantized, _ = get_step("quantize", method="qat", learning_rate=1e-3).apply(sparse, context)
    zero = sparse.hidden.weight == 0
    assert zero.float().mean() > 0.5 and (quantized.hidden.weight_int8[zero] == 0).all()


@given(st.integers(0, 999), st.sampled_from([4, 8]), st.booleans(), st.sampled_from([2, 6, 32, 64]))
@settings(deadline=None, max_examples=40)
def test_groups_are_off_by_half_a_step_at_most_and_zero_is_exact(seed, bits, symmetric, group_size) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn((3, 5, 3, 3), generator=generator)
    weight[:, :, 0] += 2
    weight[1, 2, 0, 0] = 0
    layer = nn.Conv2d(5, 3, 3)
    with torch.no_grad():
        layer.weight.copy_(weight)
    quantized = WeightOnly(layer, bits=bits, group_size=group_size, symmetric=symmetric)
    quantized.set_values(layer)
    _, scale, _ = quantize_groups(weight, bits, group_size, symmetric)
    dequantized = quantized.dequantized_weight()
    steps = scale.repeat_interleave(min(group_size, 46), dim=1)[:, :45].view(weight.shape)
    assert ((dequantized - weight).abs() <= 0.5001 * steps).all()
    assert dequantized[1, 2, 0, 0] == 0
    torch.testing.assert_close(quantized.to_float().weight, dequantized)


@given(st.lists(st.integers(0, 15), min_size=2, max_size=40).filter(lambda levels: len(levels) % 2 == 0))
def test_packing_loses_nothing(levels) -> None:
    tensor = torch.tensor(levels, dtype=torch.uint8)
    assert torch.equal(unpack(pack(tensor)), tensor)
    assert len(pack(tensor)) * 2 == len(levels)


@pytest.mark.parametrize(("bits", "symmetric"), [(8, True), (4, True), (4, False)])
def test_bytes_are_what_bits_groups_and_biases_take(bits, symmetric, context) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.Flatten(), nn.Linear(1024, 10))
    options = {"precision": f"int{bits}", "method": "weight_only", "symmetric": symmetric}
    quantized, _ = get_step("quantize", **options).apply(model, context)
    # 9 inputs make one group of 9, filled up to 10; 576 make 18 groups of 32, and 1024 make 32.
    values = 64 * 10 + 64 * 576 + 10 * 1024
    groups = 64 * 1 + 64 * 18 + 10 * 32
    assert count_bytes(quantized) == values * bits // 8 + groups * (4 if symmetric else 5) + 4 * (64 + 64 + 10)


@needs_onnx
@pytest.mark.parametrize("method", ["weight_only", "int4", "int4 asymmetric", "fp16", "bf16"])
def test_the_file_is_as_small_as_the_weights(method, context) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 128, 3), nn.ReLU(), nn.Conv2d(128, 128, 3), nn.Flatten(), nn.Linear(2048, 10))
    quantized, _ = get_step("quantize", **METHODS[method]).apply(model.eval(), context)
    compiled = ONNX.compile(quantized, context.example_inputs)
    assert count_bytes(quantized) < compiled.bytes < count_bytes(quantized) + 8000
    with torch.no_grad():
        expected = quantized(context.calibration[:9]).numpy()
    np.testing.assert_allclose(compiled(context.calibration[:9].numpy()), expected, atol=1e-5)
    # What made the weights was computed when the file was opened.
    assert not set(compiled.describe()["operators_optimized"]) & {"Cast", "Mul", "Floor", "Concat", "DequantizeLinear"}


def test_small_groups_keep_a_large_weight_from_coarsening_the_others() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 256) * 0.1
    weight[:, 7] = 5.0
    errors = []
    for group_size in (16, 64, 256):
        layer = nn.Linear(256, 4)
        layer.weight.data.copy_(weight)
        quantized = WeightOnly(layer, bits=4, group_size=group_size, symmetric=True)
        quantized.set_values(layer)
        errors.append(float((quantized.dequantized_weight() - weight).square().mean()))
    assert errors[0] < 0.5 * errors[1] < 0.5 * errors[2]


def test_dynamic_takes_the_range_of_its_batch() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(16, 5)
    quantized = DynamicLinear(layer)
    quantized.set_weights(layer)
    for size in (0.01, 100.0):  # no range that was fixed beforehand would fit both
        inputs = torch.randn(8, 16) * size
        relative = (quantized(inputs) - layer(inputs)).abs().max() / (layer(inputs) - layer.bias).abs().max()
        assert relative < 0.03
    with pytest.raises(UserError, match="no Linear for quantize method 'dynamic'"):
        get_step("quantize", method="dynamic").apply(Feeding(), _context_for(Feeding))


def _context_for(network):
    images = torch.rand(8, 1, 10, 10)
    return Context(
        example_inputs=images, calibration=images, finetune=lambda *a, **k: None, evaluate=lambda model: 0.0, seed=0
    )


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_sixteen_bits_are_half_the_bytes_and_take_float32(precision, trained, context, digits) -> None:
    quantized, note = get_step("quantize", precision=precision).apply(trained, context)
    assert all(type(module) is not nn.BatchNorm2d for module in quantized.modules()) and note["folded"]
    assert count_bytes(quantized) == count_bytes(dequantize(quantized)) / 2
    logits = quantized(digits.val_images)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, dequantize(quantized)(digits.val_images), atol=1e-4, rtol=1e-4)
    error = (logits - trained(digits.val_images)).abs().max()
    if precision == "fp16":
        check_below("largest error of fp16", error, mean=0.0091, sd=0.0029, n=27)
    else:
        check_below("largest error of bf16", error, mean=0.069, sd=0.018, n=27, most=0.5)


def test_what_fp16_cannot_hold_is_refused(plain, context) -> None:
    large = copy.deepcopy(plain)
    with torch.no_grad():
        large.classifier.bias[0] = 1e5
    with pytest.raises(UserError, match=r"classifier.bias has values up to 100000, too large for fp16"):
        get_step("quantize", precision="fp16").apply(large, context)
    quantized, _ = get_step("quantize", precision="bf16").apply(large, context)
    assert isinstance(quantized, HalfNetwork)


@pytest.mark.parametrize("first", ["weight_only", "dynamic", "fp16"])
def test_no_second_quantization(first, plain, context) -> None:
    quantized, _ = get_step("quantize", **METHODS[first]).apply(plain, context)
    for second in ("min_max", "int4", "bf16"):
        with pytest.raises(UserError, match="quantized already"):
            get_step("quantize", **METHODS[second]).apply(quantized, context)


def test_a_note_of_the_first_version_is_read(plain, context) -> None:
    quantized, note = get_step("quantize").apply(plain, context)
    old = {key: note[key] for key in ("precision", "calibration_images", "folded", "layers", "left_float")}
    restored = get_step("quantize").restore(PlainNet(), json.loads(json.dumps(old)))
    restored.load_state_dict(quantized.state_dict())
    images = context.calibration
    assert torch.equal(restored.eval()(images), quantized(images))
