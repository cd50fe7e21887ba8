"""The eager backend: bfloat16, and the order of the numbers in memory."""

import numpy as np
import pytest
import torch
from bounds import check_below
from safetensors.torch import load

from nasbench_compression import get_step
from nasbench_compression.compilation.eager import Eager
from nasbench_registry import UserError


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_memory_format_changes_the_order_and_not_the_logits(trained, context, memory_format) -> None:
    images = context.calibration[:5].numpy()
    compiled = Eager(memory_format=memory_format).compile(trained, context.example_inputs)
    np.testing.assert_allclose(compiled(images), Eager().compile(trained, context.example_inputs)(images), atol=1e-4)
    assert compiled.describe()["memory_format"] == memory_format
    calls = []
    convolution = next(module for module in compiled.model.modules() if isinstance(module, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda module, inputs, output: calls.append((module.weight, output)))
    compiled(images)
    weight, output = calls[0]
    wanted = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    assert output.is_contiguous(memory_format=wanted) and weight.is_contiguous(memory_format=wanted)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_bf16_stores_and_computes_in_16_bits(trained, context, memory_format) -> None:
    backend = Eager(memory_format=memory_format)
    wide = backend.compile(trained, context.example_inputs)
    compiled = backend.compile(trained, context.example_inputs, "bf16")
    images = context.calibration[:100].numpy()
    logits, exact = compiled(images), wide(images)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, exact, atol=0.05 * np.abs(exact).max())
    assert np.abs(logits - exact).max() > 0
    changed = abs(context.evaluate(compiled) - context.evaluate(wide))
    check_below("points that bf16 changes", changed, mean=0.087, sd=0.18, n=30, most=2)

    stored = load(compiled._artefact)
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.bfloat16}
    dtypes = []
    convolution = next(module for module in compiled.model.modules() if isinstance(module, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    compiled(images)
    assert dtypes == [torch.bfloat16]


def test_bf16_of_a_quantized_network_is_rounded_from_its_grid(plain, context) -> None:
    quantized, _ = get_step("quantize").apply(plain, context)
    compiled = Eager().compile(quantized, context.example_inputs, "bf16")
    grid = dict(quantized.named_modules())["classifier"].dequantized_weight()
    assert torch.equal(compiled.model.network.classifier.weight, grid.bfloat16())


def test_memory_format_is_checked() -> None:
    with pytest.raises(UserError, match="memory_format"):
        Eager(memory_format="channels_first")
