"""Int8: the arithmetic, folding, and accuracy."""

import copy

import pytest
import torch
from bounds import check_above, check_below
from hypothesis import given, settings, strategies as st
from torch import nn

from nasbench_compression import get_step
from nasbench_compression.quantization.folding import find_pairs, fold
from nasbench_compression.quantization.modules import (
    QuantizedConv2d,
    QuantizedLinear,
    dequantize,
    input_range,
    is_quantized,
    quantize_weight,
)
from nasbench_registry import UserError

numbers = st.floats(-1e4, 1e4, allow_nan=False, width=32)


@given(numbers, numbers)
@settings(deadline=None)
def test_zero_is_exact_and_the_range_is_covered(first, second) -> None:
    low, high = min(first, second), max(first, second)
    scale, zero_point = input_range(low, high)
    assert 0 <= zero_point <= 255 and scale > 0
    assert (0 - zero_point) * scale <= min(low, 0) + scale / 2 + 1e-9
    assert (255 - zero_point) * scale >= max(high, 0) - scale / 2 - 1e-9


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=30)
def test_weights_are_off_by_half_a_step_at_most_in_each_channel(seed, size) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn((5, 3, 3, 3), generator=generator) * size * torch.arange(1, 6).view(-1, 1, 1, 1)
    values, scale = quantize_weight(weight)
    assert values.dtype == torch.int8 and values.abs().amax((1, 2, 3)).eq(127).all()
    error = (values.float() * scale.view(-1, 1, 1, 1) - weight).abs().amax((1, 2, 3))
    assert (error <= scale * 0.5001).all()


def test_inputs_are_off_by_half_a_step_and_clipped_outside() -> None:
    torch.manual_seed(0)
    layer = QuantizedLinear(nn.Linear(4, 2))
    layer.set_values(nn.Linear(4, 2), -1.0, 3.0)
    inside, outside = torch.linspace(-1, 3, 101), torch.tensor([-5.0, 9.0])
    assert (layer.round_input(inside) - inside).abs().max() <= 4 / 255 / 2 + 1e-6
    torch.testing.assert_close(layer.round_input(outside), torch.tensor([-1.0, 3.0]), atol=4 / 255, rtol=0)
    assert layer.round_input(torch.zeros(1)).item() == 0


@pytest.mark.parametrize(
    "geometry",
    [
        {"stride": 2, "padding": 1},
        {"groups": 3},
        {"dilation": 2, "padding": "same"},
        {"padding_mode": "circular", "padding": 1},
    ],
    ids=str,
)
def test_layer_is_integer_arithmetic_and_its_float_form_has_its_weights(geometry) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 9, 3, **geometry)
    quantized = QuantizedConv2d(layer)
    quantized.set_values(layer, -2.0, 2.0)
    images = torch.randn(2, 6, 9, 9).clamp(-2, 2)
    with torch.no_grad():
        zero_point, scale = quantized.input_zero_point.item(), quantized.input_scale.item()
        integers = (torch.round(images / scale) + zero_point).clamp(0, 255) - zero_point
        accumulated = (
            copy.deepcopy(layer).double()._conv_forward(integers.double(), quantized.weight_int8.double(), None)
        )
        by_integers = accumulated * (scale * quantized.weight_scale.double()).view(-1, 1, 1)
        by_integers += layer.bias.double().view(-1, 1, 1)
        torch.testing.assert_close(quantized(images).double(), by_integers, atol=1e-5, rtol=1e-5)
        back = quantized.to_float()
        assert (back.stride, back.padding, back.groups) == (layer.stride, layer.padding, layer.groups)
        torch.testing.assert_close(back.weight, quantized.dequantized_weight())
        torch.testing.assert_close(back(quantized.round_input(images)), quantized(images))


def test_folding_changes_nothing(trained, digits) -> None:
    model = copy.deepcopy(trained)
    pairs = find_pairs(model, digits.train_images[:2])
    assert len(pairs) == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    folded = fold(copy.deepcopy(model), pairs)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(digits.val_images), model(digits.val_images), atol=1e-4, rtol=1e-4)


class Branching(nn.Module):
    """Batch norms that must stay: another consumer, a layer used twice, an input that no convolution made."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.a_norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.b, self.b_norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.c, self.c_norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, affine=False)
        self.d, self.d_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        x = self.a(x)
        x = x + self.a_norm(x)
        x = self.b_norm(self.b(x))
        x = self.b_norm(self.b(x))
        x = self.c_norm(self.c(torch.relu(x)))
        return self.head(self.d_norm(self.d(x)).mean((2, 3)))


def test_only_a_norm_that_alone_follows_is_folded(digits) -> None:
    torch.manual_seed(0)
    model = Branching()
    model(torch.randn(8, 1, 8, 8))
    assert find_pairs(model, digits.train_images[:2]) == [("c", "c_norm")]
    assert model.training
    model.eval()
    folded = fold(copy.deepcopy(model), [("c", "c_norm")])
    torch.testing.assert_close(folded(digits.val_images[:5]), model(digits.val_images[:5]), atol=1e-5, rtol=1e-4)


def test_accuracy_stays_within_a_point(trained, context) -> None:
    quantized, note = get_step("quantize").apply(trained, context)
    check_above("accuracy", context.evaluate(trained), mean=97.44, sd=1.4, n=27)
    changed = abs(context.evaluate(quantized) - context.evaluate(trained))
    check_below("points that int8 changes", changed, mean=0.067, sd=0.14, n=27, most=1)
    assert note["left_float"] == {} and note["calibration_images"] == 128
    layers = [m for m in trained.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(note["layers"]) == len(layers)


def test_ranges_are_those_of_the_calibration_images(plain, context) -> None:
    _, note = get_step("quantize", calibration_images=50).apply(plain, context)
    images = context.calibration[:50]
    assert note["layers"]["features.0"] == {"low": images.min().item(), "high": images.max().item()}


def test_dequantized_weights_lie_on_the_grid(trained, context) -> None:
    quantized, _ = get_step("quantize").apply(trained, context)
    back = dequantize(quantized)
    assert is_quantized(quantized) and not is_quantized(back)
    for name, module in back.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            values, _ = quantize_weight(module.weight)
            assert torch.equal(values, quantized.get_submodule(name).weight_int8)
    changed = abs(context.evaluate(back) - context.evaluate(trained))
    check_below("points that the grid changes", changed, mean=0.045, sd=0.11, n=27, most=1)


def test_attention_and_what_does_not_run_stay_float(context) -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.unused = nn.Conv2d(1, 8, 3), nn.Linear(8, 8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 10)

        def forward(self, x):
            tokens = self.stem(x).flatten(2).transpose(1, 2)
            return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))

    torch.manual_seed(0)
    model = Attending()
    quantized, note = get_step("quantize").apply(model, context)
    assert sorted(note["left_float"]) == ["attention", "attention.out_proj", "unused"]
    images = context.calibration[:8]
    with torch.no_grad():
        torch.testing.assert_close(quantized.eval()(images), model.eval()(images), atol=0.02, rtol=0)


def test_twice_is_refused(plain, context) -> None:
    quantized, _ = get_step("quantize").apply(plain, context)
    with pytest.raises(UserError, match="quantized already"):
        get_step("quantize").apply(quantized, context)
