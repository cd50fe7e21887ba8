"""The small layers that block modules are made of."""

from __future__ import annotations

import torch
from torch import nn

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
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    """Channel attention from the global average (Hu et al. 2018, arXiv 1709.01507); the shape stays as it is.

    With the hard sigmoid of MobileNetV3 (Howard et al. 2019, arXiv 1905.02244).

    Args:
        channels: channels of the input.
        reduction: how many times narrower the hidden layer is.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(8, channels // reduction)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Hardsigmoid(),
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
