"""Inverted residuals: expand, depthwise, project.

MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), with squeeze-and-excitation and hard-swish as in MobileNetV3
(Howard et al. 2019, arXiv 1905.02244), and fused as in EfficientNetV2 (Tan & Le 2021, arXiv 2104.00298).
"""

from __future__ import annotations

from torch import nn

from search_spaces.blocks.layers import SqueezeExcitation, conv_bn, residual_if_same


def inverted_residual(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, expansion: int = 4) -> nn.Module:
    """1x1 to `expansion` times the inputs, depthwise, linear 1x1; a shortcut where the shapes agree.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)).
    """
    hidden = inputs * expansion
    body = nn.Sequential(
        conv_bn(inputs, hidden, activation=nn.ReLU6),
        conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, activation=nn.ReLU6),
        conv_bn(hidden, outputs),
    )
    return residual_if_same(body, inputs, outputs, stride)


def inverted_residual_se(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, expansion: int = 4
) -> nn.Module:
    """The inverted residual with hard-swish, and squeeze-and-excitation behind the depthwise convolution.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)).
    """
    hidden = inputs * expansion
    body = nn.Sequential(
        conv_bn(inputs, hidden, activation=nn.Hardswish),
        conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, activation=nn.Hardswish),
        SqueezeExcitation(hidden),
        conv_bn(hidden, outputs),
    )
    return residual_if_same(body, inputs, outputs, stride)


def fused_inverted_residual(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, expansion: int = 4
) -> nn.Module:
    """The expansion and the depthwise convolution fused into one dense convolution, then a linear 1x1.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)).
    """
    hidden = inputs * expansion
    body = nn.Sequential(
        conv_bn(inputs, hidden, kernel, stride=stride, activation=nn.SiLU),
        conv_bn(hidden, outputs),
    )
    return residual_if_same(body, inputs, outputs, stride)
