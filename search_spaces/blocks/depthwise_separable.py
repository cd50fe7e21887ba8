"""Depthwise-separable convolution of MobileNet (Howard et al. 2017, arXiv 1704.04861)."""

from __future__ import annotations

from torch import nn

from search_spaces.blocks.layers import conv_bn


def depthwise_separable(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Module:
    """A depthwise, then a 1x1 convolution: (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride))."""
    return nn.Sequential(
        conv_bn(inputs, inputs, kernel, stride=stride, groups=inputs, activation=nn.ReLU),
        conv_bn(inputs, outputs, activation=nn.ReLU),
    )
