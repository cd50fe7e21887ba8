"""Quantization-aware training: rounding in the forward pass, gradients that pass straight through it.

Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018,
arXiv:1712.05877; the straight-through estimator is of Bengio et al. 2013, arXiv:1308.3432.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression.outputs import unwrapped
from nasbench_compression.quantization.calibration import Range
from nasbench_compression.quantization.modules import as_type, channel_scales, input_range
from nasbench_compression.surgery import StandIn, replace_modules

_MOMENTUM = 0.99


class FakeQuantized(StandIn):
    """A layer that rounds its weights to int8 and its inputs to uint8 before it computes, in float32.

    Gradients of rounding are one inside the range and zero outside. Weights have the scales of `quantize_weight`, from
    their values at the moment. The range of inputs moves with the extremes of the training batches, if it may.

    Args:
        layer: Layer whose weights are trained; it becomes the part `layer`.
        initial_range: Smallest and largest input at the beginning.
        moving: Whether the range moves, by an exponential average as in Jacob et al.
    """

    low: Tensor
    high: Tensor

    def __init__(self, layer: nn.Conv2d | nn.Linear, initial_range: Range, *, moving: bool) -> None:
        super().__init__(layer)
        self.layer = layer
        self.moving = moving
        device = layer.weight.device
        self.register_buffer("low", torch.tensor(initial_range[0], device=device))
        self.register_buffer("high", torch.tensor(initial_range[1], device=device))
        self.train(layer.training)

    @property
    def weight(self) -> Tensor:
        """The weight of the layer, which is trained."""
        return self.layer.weight

    @property
    def bias(self) -> Tensor | None:
        """The bias of the layer, which is trained."""
        return self.layer.bias

    def forward(self, input: Tensor) -> Tensor:
        """What the int8 layer would compute with the ranges and weights of now."""
        inputs = as_type(input, torch.float32)
        if self.training and self.moving:
            with torch.no_grad():
                low, high = torch.aminmax(unwrapped(inputs))
                self.low.lerp_(low, 1 - _MOMENTUM)
                self.high.lerp_(high, 1 - _MOMENTUM)
        scale, zero_point = input_range(float(self.low), float(self.high))
        rounded = torch.fake_quantize_per_tensor_affine(inputs, scale, zero_point, 0, 255)
        weight = as_type(self.layer.weight, torch.float32)
        bias = None if self.layer.bias is None else as_type(self.layer.bias, torch.float32)
        scales = channel_scales(weight)
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)
        if isinstance(self.layer, nn.Conv2d):
            outputs: Tensor = self.layer._conv_forward(rounded, weight, bias)
        else:
            outputs = functional.linear(rounded, weight, bias)
        return as_type(outputs, input.dtype)


def put_fakes(model: nn.Module, ranges: dict[str, Range], *, moving: bool) -> nn.Module:
    """Let the named layers round, in place."""
    fakes: dict[nn.Module, nn.Module] = {}
    for name, bounds in ranges.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        fakes[layer] = FakeQuantized(layer, bounds, moving=moving)
    return replace_modules(model, fakes)


def take_out_fakes(model: nn.Module) -> tuple[nn.Module, dict[str, Range]]:
    """Put the trained layers back in place, and return the ranges at which training ended."""
    fakes = {name: module for name, module in model.named_modules() if isinstance(module, FakeQuantized)}
    ranges = {name: (float(fake.low), float(fake.high)) for name, fake in fakes.items()}
    return replace_modules(model, {fake: fake.layer for fake in fakes.values()}), ranges
