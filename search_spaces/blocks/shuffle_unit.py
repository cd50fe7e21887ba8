"""The unit of ShuffleNetV2 (Ma et al. 2018, arXiv 1807.11164)."""

from __future__ import annotations

import torch
from torch import nn

from nasbench_registry import UserError
from search_spaces.blocks.layers import conv_bn


def channel_shuffle(x: torch.Tensor, groups: int = 2) -> torch.Tensor:
    """Interleave the channels of `groups` groups; (n, c, h, w) keeps its shape, c a multiple of `groups`."""
    # Plain numbers for all sizes but the batch: exporters then write constants and keep the batch open.
    c, h, w = (int(size) for size in x.shape[1:])
    return x.reshape(-1, groups, c // groups, h, w).transpose(1, 2).reshape(-1, c, h, w)


class ShuffleUnit(nn.Module):
    """Two branches, joined and shuffled: (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)).

    With equal widths and stride 1 the input is split in two halves and one of them passes unchanged; otherwise
    both branches see the whole input, as in the down-sampling unit of the paper.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        if outputs % 2:
            raise UserError(f"a shuffle unit needs an even number of output channels, not {outputs}.")
        half = outputs // 2
        self.splits = stride == 1 and inputs == outputs
        main_inputs = half if self.splits else inputs
        self.main = nn.Sequential(
            conv_bn(main_inputs, half, activation=nn.ReLU),
            conv_bn(half, half, kernel, stride=stride, groups=half),
            conv_bn(half, half, activation=nn.ReLU),
        )
        self.shortcut = (
            nn.Identity()
            if self.splits
            else nn.Sequential(
                conv_bn(inputs, inputs, kernel, stride=stride, groups=inputs),
                conv_bn(inputs, half, activation=nn.ReLU),
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        passed, worked = torch.split(x, int(x.shape[1]) // 2, dim=1) if self.splits else (x, x)
        return channel_shuffle(torch.cat([self.shortcut(passed), self.main(worked)], dim=1))
