"""Plain and grouped convolution, batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167), ReLU.

Groups go back to AlexNet (Krizhevsky et al. 2012); as a way to save work see Deep Roots (Ioannou et al. 2017,
arXiv 1605.06489).
"""

from __future__ import annotations

from torch import nn

from search_spaces.blocks.layers import conv_bn

_GROUPS = (8, 4, 2)
_GROUP_WIDTH = 4


def convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Module:
    """One dense convolution: (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride))."""
    return conv_bn(inputs, outputs, kernel, stride=stride, activation=nn.ReLU)


def grouped_convolution(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, groups: int | None = None
) -> nn.Module:
    """A convolution in groups that do not see each other; another layer has to mix them.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)). By default 8, 4, 2 or 1 groups: the most that
    divide both widths and leave each group at least 4 channels on both sides.
    """
    if groups is None:
        narrow = min(inputs, outputs)
        fits = [g for g in _GROUPS if inputs % g == outputs % g == 0 and narrow // g >= _GROUP_WIDTH]
        groups = fits[0] if fits else 1
    return conv_bn(inputs, outputs, kernel, stride=stride, groups=groups, activation=nn.ReLU)
