"""The block of ConvNeXt (Liu et al. 2022, arXiv 2201.03545)."""

from __future__ import annotations

import torch
from torch import nn

from search_spaces.blocks.layers import ChannelNorm, patch_projection


class ConvNeXt(nn.Module):
    """Depthwise convolution, layer norm, two 1x1 layers with GELU between, layer scale, shortcut.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)). Where the shape changes, a layer norm and a
    convolution of patches that do not overlap come first, as between the stages of the paper. Deviation: no
    stochastic depth.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        kernel: Kernel size of the depthwise convolution; 7 in the paper.
        stride: Side of a patch.
        expansion: Width of the hidden layer, as a multiple of the output's.
        layer_scale: First value of the factor of each channel (Touvron et al. 2021, arXiv 2103.17239).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 7,
        stride: int = 1,
        expansion: float = 4,
        layer_scale: float = 1e-6,
    ) -> None:
        super().__init__()
        same, hidden = stride == 1 and inputs == outputs, round(outputs * expansion)
        self.downsample = (
            nn.Identity() if same else nn.Sequential(ChannelNorm(inputs), patch_projection(inputs, outputs, stride))
        )
        self.depthwise = nn.Conv2d(outputs, outputs, kernel, padding=kernel // 2, groups=outputs)
        self.norm = nn.LayerNorm(outputs, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(outputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
        self.scale = nn.Parameter(torch.full((outputs,), layer_scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.downsample(x)
        y = self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1))) * self.scale
        out: torch.Tensor = x + y.permute(0, 3, 1, 2)
        return out
