"""The fire module of SqueezeNet (Iandola et al. 2016, arXiv 1602.07360)."""

from __future__ import annotations

import torch
from torch import nn

from nasbench_registry import UserError
from search_spaces.blocks.layers import conv_bn


class Fire(nn.Module):
    """1x1 to few channels, then a 1x1 and a wider convolution side by side, each for half of the output.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)). Deviations from the paper: batch norm, without
    which short trainings fail, and a stride, where the paper pools between the modules.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        kernel: Kernel size of the wider convolution.
        stride: Stride of both convolutions behind the squeeze.
        squeeze: Channels behind the first convolution; an eighth of `outputs` as in the paper, at least 8.
        batch_norm: Whether convolutions have batch norm; False gives biases and no batch norm, as in the paper.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        squeeze: int | None = None,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if outputs % 2:
            raise UserError(f"a fire module needs an even number of output channels, not {outputs}.")
        squeeze, half = squeeze or max(8, outputs // 8), outputs // 2
        layer = _conv_bn_relu if batch_norm else _conv_relu
        self.squeeze = layer(inputs, squeeze, 1, 1)
        self.narrow = layer(squeeze, half, 1, stride)
        self.wide = layer(squeeze, half, kernel, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze(x)
        return torch.cat([self.narrow(x), self.wide(x)], dim=1)


def _conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    return conv_bn(inputs, outputs, kernel, stride=stride, activation=nn.ReLU)


def _conv_relu(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.ReLU())
