"""Layers that hold int8 weights and compute what an integer kernel computes, in float32.

Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR
2018, arXiv:1712.05877: q = clamp(round(x / scale) + zero_point). Weights are symmetric with one scale for each
output channel, inputs are uint8 with one scale and zero point. Deviation: the bias stays in float32, and outputs
are not rounded, since the next layer rounds its input.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression.copying import copy_network
from nasbench_compression.surgery import StandIn, replace_modules


def top_level(bits: int) -> int:
    """The largest of the levels that lie symmetric around zero: 127 of 8 bits, 1 of 2."""
    return (1 << (bits - 1)) - 1


def channel_scales(weight: Tensor, bits: int = 8) -> Tensor:
    """(out_channels,) what one level is worth, so that the largest weight of a channel is the top level."""
    return weight.detach().float().flatten(1).abs().amax(dim=1).clamp(min=1e-12) / top_level(bits)


def weight_levels(weight: Tensor, bits: int = 8) -> tuple[Tensor, Tensor]:
    """Levels of the shape of `weight`, symmetric around zero, and the scales (out_channels,), float32."""
    weight = weight.detach().float()
    scale, top = channel_scales(weight, bits), top_level(bits)
    shaped = per_channel(scale, weight.ndim)
    return torch.clamp(torch.round(weight / shaped), -top, top), scale


def per_channel(scale: Tensor, dimensions: int) -> Tensor:
    """(out_channels,) as (out_channels, 1, ...), to be multiplied with a weight of so many dimensions."""
    return scale.view(-1, *[1] * (dimensions - 1))


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Int8 values from -127 to 127 of the shape of `weight`, and the scales (out_channels,)."""
    levels, scale = weight_levels(weight)
    return levels.to(torch.int8), scale


def input_range(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of a uint8 input with values from `low` to `high`; zero is always exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, 1e-12) / 255
    return scale, min(255, max(0, round(-low / scale)))


class Reduced(nn.Module):
    """A layer, or a whole network, whose weights are stored in fewer bits.

    Attributes:
        integer: Whether it computes with integers, so that a backend should run it in int8.
    """

    integer: ClassVar[bool] = False

    def to_float(self) -> nn.Module:
        """The ordinary module with the weights that this one stands for."""
        raise NotImplementedError


class ReducedLayer(StandIn, Reduced):
    """A layer whose weights are stored in fewer bits.

    It computes in float32; inputs and outputs have the type of the layer that it stands for.

    Args:
        layer: Layer whose shape it takes; its values come later.
    """

    bias: Tensor | None

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__(layer)
        self.weight_type = layer.weight.dtype

    @property
    def weight(self) -> Tensor:
        """The weight that the levels stand for, in the type that it had."""
        return self.dequantized_weight().to(self.weight_type)

    @property
    def wide_bias(self) -> Tensor | None:
        """The bias in float32; it is kept in its own type."""
        return None if self.bias is None else as_type(self.bias, torch.float32)

    def dequantized_weight(self) -> Tensor:
        """The float32 weight that the levels stand for, in the shape of the layer's."""
        raise NotImplementedError


RESERVED = frozenset(
    {
        *("weight_type", "weight_int8", "weight_scale", "input_scale", "input_zero_point", "shape", "integer"),
        *("bits", "group_size", "symmetric", "weight_shape", "levels", "scale", "zero_point"),
        *("layer", "moving", "low", "high", "to_float", "wide_bias", "dequantized_weight", "set_weights", "set_values"),
    }
)
"""Names of attributes that quantized layers need for themselves."""


class Int8Weights(ReducedLayer):
    """Buffers of a layer with int8 weights that computes with integers."""

    integer: ClassVar[bool] = True

    weight_int8: Tensor
    weight_scale: Tensor

    def _set_buffers(self, weight: Tensor, bias: Tensor | None) -> None:
        device = weight.device
        self.register_buffer("weight_int8", torch.zeros(weight.shape, dtype=torch.int8, device=device))
        self.register_buffer("weight_scale", torch.ones(len(weight), device=device))
        self.register_buffer("bias", None if bias is None else torch.zeros_like(bias.detach()))

    def set_weights(self, layer: nn.Conv2d | nn.Linear) -> None:
        """Take over the weights of `layer`."""
        values, scale = quantize_weight(layer.weight)
        self.weight_int8.copy_(values)
        self.weight_scale.copy_(scale)
        if self.bias is not None and layer.bias is not None:
            self.bias.copy_(layer.bias.detach())

    def dequantized_weight(self) -> Tensor:
        """The float32 weight, each value a multiple of its channel's scale."""
        return self.weight_int8.float() * per_channel(self.weight_scale, self.weight_int8.ndim)

    def to_float(self) -> nn.Conv2d | nn.Linear:
        """An ordinary linear layer with the weights on the int8 grid; convolutions have a form of their own."""
        outputs, inputs = self.weight_int8.shape
        layer = nn.Linear(inputs, outputs, bias=self.bias is not None, device=self.weight_int8.device)
        layer = layer.to(self.weight_type)
        _fill(layer, self)
        return layer


class _Quantized(Int8Weights):
    """Inputs with a fixed range, for both kinds of layers."""

    input_scale: Tensor
    input_zero_point: Tensor

    def _set_buffers(self, weight: Tensor, bias: Tensor | None) -> None:
        super()._set_buffers(weight, bias)
        self.register_buffer("input_scale", torch.ones((), device=weight.device))
        self.register_buffer("input_zero_point", torch.zeros((), dtype=torch.uint8, device=weight.device))

    def set_values(self, layer: nn.Conv2d | nn.Linear, low: float, high: float) -> None:
        """Take over the weights of `layer`, whose inputs lie between `low` and `high`."""
        self.set_weights(layer)
        input_scale, zero_point = input_range(low, high)
        self.input_scale.fill_(input_scale)
        self.input_zero_point.fill_(zero_point)

    def round_input(self, inputs: Tensor) -> Tensor:
        """The inputs as uint8 can hold them, in float32."""
        inputs = as_type(inputs, torch.float32)
        zero_point = self.input_zero_point.float()
        values = torch.clamp(torch.round(inputs / self.input_scale) + zero_point, 0, 255)
        return (values - zero_point) * self.input_scale


def convolution_shape(layer: nn.Conv2d) -> dict[str, Any]:
    """The arguments, bias apart, that make a convolution like this one."""
    return {
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "groups": layer.groups,
        "padding_mode": layer.padding_mode,
    }


class QuantizedConv2d(_Quantized):
    """A convolution with int8 weights; (n, in_channels, h, w) to (n, out_channels, h', w').

    Args:
        layer: Convolution whose shape it takes; its values come with `set_values` or a state_dict.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__(layer)
        self.shape = convolution_shape(layer)
        self._set_buffers(layer.weight, layer.bias)
        # Only pads, strides and dilates: the weight is passed in. Kept out of the submodules, as it has no state.
        object.__setattr__(self, "_geometry", nn.Conv2d(**self.shape, bias=False, device="meta"))

    def forward(self, input: Tensor) -> Tensor:
        """(n, in_channels, h, w) to (n, out_channels, h', w')."""
        geometry: nn.Conv2d = self._geometry  # type: ignore[assignment]  # set in __init__
        outputs: Tensor = geometry._conv_forward(self.round_input(input), self.dequantized_weight(), self.wide_bias)
        return as_type(outputs, input.dtype)

    def to_float(self) -> nn.Conv2d:
        """An ordinary convolution with the weights on the int8 grid."""
        layer = nn.Conv2d(**self.shape, bias=self.bias is not None, device=self.weight_int8.device)
        layer = layer.to(self.weight_type)
        _fill(layer, self)
        return layer


class QuantizedLinear(_Quantized):
    """A linear layer with int8 weights; (..., in_features) to (..., out_features).

    Args:
        layer: Layer whose shape it takes; its values come with `set_values` or a state_dict.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        self._set_buffers(layer.weight, layer.bias)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return as_type(
            functional.linear(self.round_input(input), self.dequantized_weight(), self.wide_bias), input.dtype
        )


def as_type(tensor: Tensor, kind: torch.dtype) -> Tensor:
    """The tensor itself if it is of this type, so that nothing is traced that does nothing."""
    return tensor if tensor.dtype is kind else tensor.to(kind)


def _fill(layer: nn.Conv2d | nn.Linear, source: Int8Weights) -> None:
    with torch.no_grad():
        layer.weight.copy_(source.dequantized_weight())
        if layer.bias is not None and source.bias is not None:
            layer.bias.copy_(source.bias)
    layer.train(source.training)


def quantized_like(layer: nn.Conv2d | nn.Linear) -> QuantizedConv2d | QuantizedLinear:
    """The quantized layer of the same shape, without values."""
    quantized = QuantizedConv2d(layer) if isinstance(layer, nn.Conv2d) else QuantizedLinear(layer)
    return quantized.train(layer.training)


def is_quantized(model: nn.Module) -> bool:
    """Whether any layer computes in int8, so that a backend should; weights alone in fewer bits do not count."""
    return any(isinstance(module, Reduced) and module.integer for module in model.modules())


def is_reduced(model: nn.Module) -> bool:
    """Whether the step `quantize` made any part of it, in whatever precision."""
    return any(isinstance(module, Reduced) for module in model.modules())


def dequantize(model: nn.Module) -> nn.Module:
    """The network with ordinary layers, whose weights lie on the grid of the fewer bits.

    Args:
        model: Network; it is not changed.

    Returns:
        A copy; or `model` itself, not copied, if it has nothing but ordinary layers.
    """
    if not is_reduced(model):
        return model
    model = copy_network(model)
    return replace_modules(model, {part: part.to_float() for part in model.modules() if isinstance(part, Reduced)})
