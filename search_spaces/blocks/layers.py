"""The small layers that block modules are made of."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from nasbench_registry import UserError


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = None,
) -> nn.Sequential:
    """Convolution without bias, batch norm, activation: (n, inputs, h, w) -> (n, outputs, ceil(h/s), ceil(w/s))."""
    if kernel % 2 == 0:
        raise UserError(f"kernel {kernel} is even; blocks keep the image centred and need an odd kernel (1, 3, 5, 7).")
    if groups < 1 or inputs % groups or outputs % groups:
        raise UserError(f"{groups} groups do not divide {inputs} input and {outputs} output channels evenly.")
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


def multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and the next one where that would lose more than a tenth.

    The rounding of the MobileNets (Sandler et al. 2018, arXiv 1801.04381).
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


class SqueezeExcitation(nn.Module):
    """Channel attention from the global average (Hu et al. 2018, arXiv 1709.01507); the shape stays as it is.

    By default with the sizes and the hard sigmoid of MobileNetV3 (Howard et al. 2019, arXiv 1905.02244).

    Args:
        channels: Number of input channels.
        hidden: Channels of the hidden layer; a quarter of `channels`, as a multiple of 8, if not given.
        activation: Activation behind the hidden layer.
        gate: Function that gives the factors of the channels.
    """

    def __init__(
        self,
        channels: int,
        hidden: int | None = None,
        *,
        activation: type[nn.Module] = nn.ReLU,
        gate: type[nn.Module] = nn.Hardsigmoid,
    ) -> None:
        super().__init__()
        hidden = multiple_of_8(channels // 4) if hidden is None else hidden
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            activation(),
            nn.Conv2d(hidden, channels, 1),
            gate(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x * self.gate(x)
        return out


class Residual(nn.Module):
    """``x + body(x)``."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.body(x)
        return out


def residual_if_same(body: nn.Module, inputs: int, outputs: int, stride: int) -> nn.Module:
    """The body with a shortcut around it where the shapes allow one."""
    return Residual(body) if stride == 1 and inputs == outputs else body


class ChannelNorm(nn.Module):
    """Layer norm (Ba et al. 2016, arXiv 1607.06450) over the channels of each pixel; (n, c, h, w) keeps its shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


class PadToMultiple(nn.Module):
    """Zeros below and to the right, up to a multiple of `size`: (n, c, h, w) -> (n, c, ceil(h/size)*size, ...)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Plain numbers, so that exporters write constants.
        below, right = (-int(size) % self.size for size in x.shape[2:])
        return functional.pad(x, (0, right, 0, below)) if below or right else x


def patch_projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """A convolution of patches that do not overlap: (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)).

    It is what transformers and ConvNeXt reduce the resolution with; where `stride` does not divide h or w, zeros are
    added below and to the right.
    """
    convolution = nn.Conv2d(inputs, outputs, stride, stride)
    return convolution if stride == 1 else nn.Sequential(PadToMultiple(stride), convolution)
