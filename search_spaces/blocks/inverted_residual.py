"""Inverted residuals: expand, depthwise, project.

MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), with squeeze-and-excitation and hard-swish as in MobileNetV3
(Howard et al. 2019, arXiv 1905.02244), and fused as in EfficientNetV2 (Tan & Le 2021, arXiv 2104.00298). With an
expansion of 1 there is no expansion convolution, as in the first block of each of these networks.
"""

from __future__ import annotations

from torch import nn

from search_spaces.blocks.layers import SqueezeExcitation, conv_bn, residual_if_same


def inverted_residual(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, expansion: float = 4
) -> nn.Module:
    """1x1 to `expansion` times the inputs, depthwise, linear 1x1; a shortcut where the shapes agree.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)).
    """
    hidden = round(inputs * expansion)
    body = nn.Sequential(
        *_expand(inputs, hidden, nn.ReLU6),
        conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, activation=nn.ReLU6),
        conv_bn(hidden, outputs),
    )
    return residual_if_same(body, inputs, outputs, stride)


def inverted_residual_se(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    expansion: float = 4,
    activation: type[nn.Module] = nn.Hardswish,
    squeeze: int | None = None,
    squeeze_activation: type[nn.Module] = nn.ReLU,
    gate: type[nn.Module] = nn.Hardsigmoid,
) -> nn.Module:
    """The inverted residual with squeeze-and-excitation behind the depthwise convolution.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)). The defaults are those of MobileNetV3. The
    block of the EfficientNets has ``activation=SiLU, squeeze=inputs // 4, squeeze_activation=SiLU, gate=Sigmoid``.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        kernel: Kernel size of the depthwise convolution.
        stride: Stride of the depthwise convolution.
        expansion: Width of the depthwise convolution, as a multiple of the input's.
        activation: Activation behind the first two convolutions.
        squeeze: Hidden channels of the squeeze-and-excitation; see `SqueezeExcitation`.
        squeeze_activation: Activation behind the hidden channels.
        gate: Function that gives the factors of the channels.
    """
    hidden = round(inputs * expansion)
    body = nn.Sequential(
        *_expand(inputs, hidden, activation),
        conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, activation=activation),
        SqueezeExcitation(hidden, squeeze, activation=squeeze_activation, gate=gate),
        conv_bn(hidden, outputs),
    )
    return residual_if_same(body, inputs, outputs, stride)


def fused_inverted_residual(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, expansion: float = 4
) -> nn.Module:
    """The expansion and the depthwise convolution fused into one dense convolution, then a linear 1x1.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)). With an expansion of 1 the dense convolution
    is all there is.
    """
    hidden = round(inputs * expansion)
    body = (
        conv_bn(inputs, outputs, kernel, stride=stride, activation=nn.SiLU)
        if hidden == inputs
        else nn.Sequential(
            conv_bn(inputs, hidden, kernel, stride=stride, activation=nn.SiLU),
            conv_bn(hidden, outputs),
        )
    )
    return residual_if_same(body, inputs, outputs, stride)


def _expand(inputs: int, hidden: int, activation: type[nn.Module]) -> list[nn.Module]:
    return [] if hidden == inputs else [conv_bn(inputs, hidden, activation=activation)]
