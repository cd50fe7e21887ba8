"""The ghost module of GhostNet (Han et al. 2020, arXiv 1911.11907)."""

from __future__ import annotations

import torch
from torch import nn

from nasbench_registry import UserError
from search_spaces.blocks.layers import conv_bn


class GhostModule(nn.Module):
    """A convolution that makes some of its maps, and a cheap depthwise one that makes the rest from them.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)).

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        kernel: Kernel size of the primary convolution.
        stride: Stride of the primary convolution.
        ratio: Ratio of `outputs` to the maps that the primary convolution makes (s in the paper).
        cheap_kernel: Kernel size of the cheap convolution (d in the paper).
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, ratio: int = 2, cheap_kernel: int = 3
    ) -> None:
        super().__init__()
        if ratio < 2 or outputs % ratio:
            raise UserError(
                f"a ghost module needs a ratio above 1 that divides its output channels, not {ratio} for {outputs}."
            )
        primary = outputs // ratio
        self.primary = conv_bn(inputs, primary, kernel, stride=stride, activation=nn.ReLU)
        self.cheap = conv_bn(primary, outputs - primary, cheap_kernel, groups=primary, activation=nn.ReLU)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.primary(x)
        return torch.cat([first, self.cheap(first)], dim=1)
