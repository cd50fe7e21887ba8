"""Plain convolution, batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167), ReLU."""

from __future__ import annotations

from torch import nn

from search_spaces.blocks.layers import conv_bn


def convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Module:
    """One dense convolution: (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride))."""
    return conv_bn(inputs, outputs, kernel, stride=stride, activation=nn.ReLU)
