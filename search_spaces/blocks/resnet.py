"""Residual blocks of ResNet (He et al. 2016, arXiv 1512.03385) and ResNeXt (Xie et al. 2017, arXiv 1611.05431).

The shortcut is the identity where the shapes agree, and a 1x1 convolution with batch norm elsewhere (option B of the
paper). The stride is on the kernel x kernel convolution, as in what the field calls ResNet v1.5.
"""

from __future__ import annotations

import torch
from torch import nn

from search_spaces.blocks.layers import conv_bn


class _Residual(nn.Module):
    """``relu(shortcut(x) + body(x))``."""

    def __init__(self, body: nn.Module, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        same = stride == 1 and inputs == outputs
        self.body = body
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, stride=stride)
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.activation(self.shortcut(x) + self.body(x))
        return out


def resnet_basic(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Module:
    """Two dense convolutions and a shortcut: (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride))."""
    body = nn.Sequential(
        conv_bn(inputs, outputs, kernel, stride=stride, activation=nn.ReLU),
        conv_bn(outputs, outputs, kernel),
    )
    return _Residual(body, inputs, outputs, stride)


def resnet_bottleneck(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, reduction: int = 4) -> nn.Module:
    """1x1 to `outputs` / `reduction` channels, a dense convolution, 1x1 to `outputs`, and a shortcut.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)).
    """
    return _bottleneck(inputs, outputs, kernel, stride, outputs // reduction, groups=1)


def resnext(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, cardinality: int | None = None, reduction: int = 2
) -> nn.Module:
    """The bottleneck with a grouped convolution: (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)).

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        kernel: Kernel size of the grouped convolution.
        stride: Stride of the grouped convolution.
        cardinality: Number of groups; groups of 4 channels if not given. In ResNeXt-50 32x4d it is 32 everywhere.
        reduction: Ratio of `outputs` to the channels of the grouped convolution; 2 for 32x4d, 1 for 64x4d and 32x8d.
    """
    width = outputs // reduction
    return _bottleneck(inputs, outputs, kernel, stride, width, groups=cardinality or max(1, width // 4))


def _bottleneck(inputs: int, outputs: int, kernel: int, stride: int, width: int, *, groups: int) -> nn.Module:
    body = nn.Sequential(
        conv_bn(inputs, width, activation=nn.ReLU),
        conv_bn(width, width, kernel, stride=stride, groups=groups, activation=nn.ReLU),
        conv_bn(width, outputs),
    )
    return _Residual(body, inputs, outputs, stride)
