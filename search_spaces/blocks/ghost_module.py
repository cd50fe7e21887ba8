"""The ghost module of GhostNet (Han et al. 2020, arXiv 1911.11907)."""

from __future__ import annotations

import torch
from torch import nn

from search_spaces.blocks.layers import conv_bn


class GhostModule(nn.Module):
    """A convolution that makes half of its maps, and a cheap depthwise one that makes the rest from them.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)). The ratio s of the paper is 2; `kernel` is
    the kernel of the primary convolution, the cheap one is 3x3.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        primary = (outputs + 1) // 2
        self.outputs = outputs
        self.primary = conv_bn(inputs, primary, kernel, stride=stride, activation=nn.ReLU)
        self.cheap = conv_bn(primary, outputs - primary, 3, groups=outputs - primary, activation=nn.ReLU)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.primary(x)
        return torch.cat([first, self.cheap(first)], dim=1)
