"""Which layers suffer from fewer bits, and which get them under a limit."""

import copy
import dataclasses

import pytest
import torch
from tests_support import check_agreement
from torch import nn

from nasbench_compression import get_backend, get_step
from nasbench_compression.quantization.layers import prepare
from nasbench_compression.quantization.modules import QuantizedConv2d, QuantizedLinear
from nasbench_compression.quantization.sensitivity import Options, sensitivity, with_choices
from nasbench_compression.quantization.weight_only import WeightOnly
from nasbench_compression.step import count_bytes
from nasbench_registry import UserError

ONNX = get_backend("onnxruntime")
needs_onnx = pytest.mark.skipif(ONNX.why_unavailable() is not None, reason=str(ONNX.why_unavailable()))
LAYERS = ["features.0", "features.3", "features.6", "hidden", "classifier"]


def plain_layers(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if type(module) in (nn.Conv2d, nn.Linear)]


def test_each_layer_alone(plain, context, digits) -> None:
    table = sensitivity(plain, context)
    assert [(entry.layer, entry.precision) for entry in table] == [
        (layer, precision) for layer in LAYERS for precision in ("int8", "int4")
    ]
    prepared, images = prepare(plain, context.calibration)
    before = context.evaluate(plain)
    for entry in table:
        quantized = with_choices(prepared, {entry.layer: entry.precision}, Options())
        assert plain_layers(quantized) == [layer for layer in LAYERS if layer != entry.layer]
        assert entry.val_acc_pct == context.evaluate(quantized)
        assert entry.acc_drop_pct == pytest.approx(before - entry.val_acc_pct)
        with torch.no_grad():
            expected = nn.functional.cross_entropy(quantized(images), context.labels)
        assert entry.loss == pytest.approx(float(expected), rel=1e-4)
        assert entry.divergence >= -1e-6
        assert entry.saved_bytes == count_bytes(prepared.model) - count_bytes(quantized)
    unlabelled = sensitivity(plain, dataclasses.replace(context, labels=None), ["int8"])
    assert [entry.loss for entry in unlabelled] == [None] * 5


def fragile(plain: nn.Module) -> nn.Module:
    """The same function, with a layer `hidden` that 4 bits ruin: one unread input has a huge weight in each group."""
    model = copy.deepcopy(plain)
    with torch.no_grad():
        for channel in (5, 10, 20, 28):  # four inputs of `hidden` each; 32 inputs, which are 8 channels, share a scale
            model.features[6].weight[channel] = 0
            model.features[6].bias[channel] = -1  # ReLU makes it 0
            model.hidden.weight.view(24, 32, 4)[:, channel] = 100.0
    return model


def test_the_layer_that_suffers_most_is_told_and_spared(plain, context) -> None:
    model = fragile(plain)
    table = {entry.layer: entry for entry in sensitivity(model, context, ["int4"])}
    worst = max(table.values(), key=lambda entry: entry.divergence)
    assert worst.layer == "hidden"
    assert worst.acc_drop_pct > max(entry.acc_drop_pct for entry in table.values() if entry is not worst) + 1
    quantized, note = get_step("quantize", precision="mixed", max_acc_drop_pct=1.0).apply(model, context)
    assert note["choices"]["hidden"] != "int4"
    assert context.evaluate(model) - context.evaluate(quantized) <= 1.0
    # Each of the others alone: what goes to 4 bits costs less than what may be lost.
    assert any(choice == "int4" for choice in note["choices"].values())


@pytest.mark.parametrize("share", [0.75, 0.5, 0.25])
def test_bytes_under_a_limit(share, trained, context) -> None:
    limit = int(share * count_bytes(trained))
    quantized, note = get_step("quantize", precision="mixed", max_size_bytes=limit).apply(trained, context)
    assert count_bytes(quantized) <= limit
    kinds = {"fp32": nn.Module, "int8": QuantizedConv2d | QuantizedLinear, "int4": WeightOnly}
    for layer, choice in note["choices"].items():
        assert isinstance(quantized.get_submodule(layer), kinds[choice])
    assert list(note["left_float"]) == [layer for layer, choice in note["choices"].items() if choice == "fp32"]
    assert {entry["layer"] for entry in note["sensitivity"]} == set(note["choices"])
    if share == 0.75:  # not more than is needed
        assert "fp32" in note["choices"].values()


def test_a_limit_of_bytes_out_of_reach(plain, context) -> None:
    with pytest.raises(UserError, match=r"max_size_bytes is 5000, and .* takes \d+ bytes"):
        get_step("quantize", precision="mixed", max_size_bytes=5000).apply(plain, context)


def test_the_fewest_layers_that_make_it_fast_enough(plain, context) -> None:
    """A device on which each float layer takes 1 ms, and each int8 layer a quarter."""

    def latency_ms(model):
        return sum(1.0 if type(m) in (nn.Conv2d, nn.Linear) else 0.25 for m in model.modules() if hasattr(m, "bias"))

    folded, _ = prepare(plain, context.calibration)
    assert latency_ms(folded.model) == 5
    timed = dataclasses.replace(context, latency_ms=latency_ms)
    table = {entry.layer: entry for entry in sensitivity(plain, context, ["int8"])}
    harm = sorted(LAYERS, key=lambda layer: max(table[layer].divergence, 0) / table[layer].saved_bytes)
    for limit, count in ((5, 0), (4.3, 1), (3.0, 3), (1.25, 5)):
        step = get_step("quantize", precision="mixed", max_latency_ms=limit, calibration_images=256)
        quantized, note = step.apply(plain, timed)
        int8 = [layer for layer, choice in note["choices"].items() if choice == "int8"]
        assert set(int8) == set(harm[:count]) and "int4" not in note["choices"].values()
        assert latency_ms(quantized) == note["measured"]["latency_ms"] <= limit
    with pytest.raises(UserError, match="in int8 the network takes 1.25 ms"):
        get_step("quantize", precision="mixed", max_latency_ms=1).apply(plain, timed)
    with pytest.raises(UserError, match="give latency_ms"):
        get_step("quantize", precision="mixed", max_latency_ms=1).apply(plain, context)


@needs_onnx
def test_the_artefact_keeps_float_layers_float(plain, context, digits) -> None:
    prepared, _ = prepare(plain, context.calibration)
    choices = {"features.3": "int8", "features.6": "int4", "classifier": "int8"}
    quantized = with_choices(prepared, choices, Options())
    compiled = ONNX.compile(quantized, context.example_inputs, "int8", context.calibration)
    operators = compiled.describe()["operators_optimized"]
    assert operators["QLinearConv"] == 1 and operators["Conv"] == 2
    assert operators["QGemm"] == 1 and operators["Gemm"] == 1
    assert "Concat" in compiled.describe()["operators"] and "Concat" not in operators  # int4 is stored as such
    check_agreement(compiled, quantized, digits.val_images, context.evaluate)
