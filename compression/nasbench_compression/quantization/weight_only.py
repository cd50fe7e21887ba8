"""Layers whose weights are stored in 8 or 4 bits, in groups with a scale each, and that compute in float32.

Groups of neighbouring weights with a scale of their own keep a large weight from coarsening all others of its channel:
Dettmers & Zettlemoyer, The case for 4-bit precision: k-bit Inference Scaling Laws, ICML 2023, arXiv:2212.09720.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression.quantization.modules import ReducedLayer, as_type, convolution_shape, top_level


def quantize_groups(weight: Tensor, bits: int, group_size: int, symmetric: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of each output channel in groups along its inputs; the last group of a channel is filled with zeros.

    q = clamp(round(w / scale) + zero_point, 0, 2^bits - 1). Symmetric: zero_point is 2^(bits - 1), the scale is the
    largest absolute value over 2^(bits - 1) - 1, and 0 is not used. Asymmetric: the levels span the group from its
    smallest to its largest value, zero included, so that zero stays exact.

    Args:
        weight: Weight, (out_channels, ...).
        bits: Number of bits, 8 or 4.
        group_size: Weights that share a scale; a channel with fewer is one group.
        symmetric: Whether the levels lie symmetric around zero, see above.

    Returns:
        Levels (out_channels, groups, group_size) uint8, scales (out_channels, groups) float32, and zero points of that
        shape, uint8.
    """
    rows = weight.detach().float().flatten(1)
    size, groups = grouping(rows.shape[1], group_size)
    rows = functional.pad(rows, (0, groups * size - rows.shape[1])).view(len(rows), groups, size)
    top = 2**bits - 1
    if symmetric:
        scale = rows.abs().amax(2).clamp(min=1e-12) / top_level(bits)
        zero_point = torch.full_like(scale, 2 ** (bits - 1))
    else:
        low, high = rows.amin(2).clamp(max=0), rows.amax(2).clamp(min=0)
        scale = (high - low).clamp(min=1e-12) / top
        zero_point = torch.round(-low / scale).clamp(0, top)
    levels = torch.clamp(torch.round(rows / scale[..., None]) + zero_point[..., None], 1 if symmetric else 0, top)
    return levels.to(torch.uint8), scale, zero_point.to(torch.uint8)


def grouping(inputs: int, group_size: int) -> tuple[int, int]:
    """Weights a group, an even number so that pairs fill bytes, and groups a channel, for a channel of `inputs`."""
    size = min(group_size, inputs + inputs % 2)
    return size, -(-inputs // size)


def pack(levels: Tensor) -> Tensor:
    """Two levels of 4 bits in a byte, the first in the lower half; the last dimension is halved."""
    return levels[..., 0::2] | (levels[..., 1::2] << 4)


def unpack(packed: Tensor) -> Tensor:
    """The levels that `pack` packed."""
    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)


class WeightOnly(ReducedLayer):
    """A convolution or a linear layer with weights of 8 or 4 bits; shapes as in the layer that it stands for.

    Args:
        layer: Layer whose shape it takes; its values come with `set_values` or a state_dict.
        bits: Number of bits, 8 or 4.
        group_size: Weights that share a scale, an even number.
        symmetric: Whether the levels lie symmetric around zero; otherwise each group has a zero point.
    """

    levels: Tensor
    scale: Tensor
    zero_point: Tensor | None

    def __init__(self, layer: nn.Conv2d | nn.Linear, *, bits: int, group_size: int, symmetric: bool) -> None:
        super().__init__(layer)
        self.bits, self.group_size, self.symmetric = bits, group_size, symmetric
        self.weight_shape = tuple(layer.weight.shape)
        outputs, inputs = len(layer.weight), layer.weight[0].numel()
        size, groups = grouping(inputs, group_size)
        device = layer.weight.device
        stored = (outputs, groups, size if bits == 8 else size // 2)
        self.register_buffer("levels", torch.zeros(stored, dtype=torch.uint8, device=device))
        self.register_buffer("scale", torch.ones((outputs, groups), device=device))
        zero_point = None if symmetric else torch.zeros((outputs, groups), dtype=torch.uint8, device=device)
        self.register_buffer("zero_point", zero_point)
        self.register_buffer("bias", None if layer.bias is None else torch.zeros_like(layer.bias.detach()))
        if isinstance(layer, nn.Conv2d):
            template: nn.Conv2d | nn.Linear = nn.Conv2d(**convolution_shape(layer), bias=False, device="meta")
        else:
            template = nn.Linear(inputs, outputs, bias=False, device="meta")
        # Only says how to compute: the weight is passed in. Kept out of the submodules, as it has no state.
        object.__setattr__(self, "_like", template)

    def set_values(self, layer: nn.Conv2d | nn.Linear) -> None:
        """Take over the weights of `layer`."""
        levels, scale, zero_point = quantize_groups(layer.weight, self.bits, self.group_size, self.symmetric)
        self.levels.copy_(levels if self.bits == 8 else pack(levels))
        self.scale.copy_(scale)
        if self.zero_point is not None:
            self.zero_point.copy_(zero_point)
        if self.bias is not None and layer.bias is not None:
            self.bias.copy_(layer.bias.detach())

    def dequantized_weight(self) -> Tensor:
        """The float32 weight, in the shape of the layer's."""
        levels = self.levels if self.bits == 8 else unpack(self.levels)
        zero_point: Tensor | int = (
            2 ** (self.bits - 1) if self.zero_point is None else self.zero_point[..., None].float()
        )
        rows = ((levels.float() - zero_point) * self.scale[..., None]).flatten(1)
        outputs, *rest = self.weight_shape
        count = torch.Size(rest).numel()
        return rows[:, :count].reshape(outputs, *rest)

    def forward(self, input: Tensor) -> Tensor:
        """What the layer computes with the weights of fewer bits."""
        like: nn.Module = self._like  # type: ignore[assignment]  # set in __init__
        inputs = as_type(input, torch.float32)
        if isinstance(like, nn.Conv2d):
            outputs: Tensor = like._conv_forward(inputs, self.dequantized_weight(), self.wide_bias)
        else:
            outputs = functional.linear(inputs, self.dequantized_weight(), self.wide_bias)
        return as_type(outputs, input.dtype)

    def to_float(self) -> nn.Conv2d | nn.Linear:
        """An ordinary layer with the weights on the grid."""
        layer: nn.Conv2d | nn.Linear = copy.deepcopy(self._like)  # type: ignore[assignment]  # set in __init__
        layer.weight = nn.Parameter(self.weight.detach())
        layer.bias = None if self.bias is None else nn.Parameter(self.bias.to(self.weight_type))
        return layer.train(self.training)

    def extra_repr(self) -> str:
        """Shape of the weight and options."""
        return f"{self.weight_shape}, bits={self.bits}, group_size={self.group_size}, symmetric={self.symmetric}"
