"""A layer as a chain of smaller ones.

Every method writes a convolution as small convolutions in a row, each of which does the vertical part of the kernel,
the horizontal part, both or neither: a 3x3 convolution of stride two, by CP with rank 8, is

    1x1 16 -> 8  |  3x1, stride (2, 1), on each of the 8  |  1x3, stride (1, 2), on each of the 8  |  1x1 8 -> 32

A part is done once, with its own kernel size, stride, padding and dilation. Only the last link has a bias, so zero
padding commutes with whatever comes before it. A linear layer is a chain of linear layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasbench_compression.surgery import keep_attributes

Layer = nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class Link:
    """One small layer.

    Attributes:
        inputs: Number of input channels.
        outputs: Number of output channels.
        vertical: Whether it does the rows of the kernel.
        horizontal: Whether it does the columns of the kernel.
        depthwise: Whether it works on each channel by itself.
    """

    inputs: int
    outputs: int
    vertical: bool = False
    horizontal: bool = False
    depthwise: bool = False


@dataclass(frozen=True)
class Call:
    """Sizes of the maps that go in and out of a layer for one image; a linear layer's positions are a column."""

    rows: int
    columns: int
    rows_out: int
    columns_out: int


def kernel_size(layer: Layer) -> tuple[int, int]:
    """Height and width of the kernel; one pixel for a linear layer."""
    if isinstance(layer, nn.Linear):
        return 1, 1
    return layer.kernel_size[0], layer.kernel_size[1]


def channels(layer: Layer) -> tuple[int, int]:
    """Numbers of input and output channels."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def weight_shape(layer: Layer, link: Link) -> tuple[int, ...]:
    """The shape of a link's weight."""
    if isinstance(layer, nn.Linear):
        return link.outputs, link.inputs
    height, width = kernel_size(layer)
    inputs = 1 if link.depthwise else link.inputs
    return link.outputs, inputs, height if link.vertical else 1, width if link.horizontal else 1


class Chain(nn.Sequential):
    """Small layers in the place of one, which answer for it: what other code reads of the layer, it finds here.

    Args:
        layer: Layer that they stand for.
        links: Small layers, in order.
    """

    def __init__(self, layer: Layer, links: Sequence[nn.Module]) -> None:
        super().__init__(*links)
        keep_attributes(layer, self)

    @property
    def weight(self) -> Tensor:
        """The weight that the layer would have, to compute what the links do together."""
        product: Tensor | None = None
        for link in self:
            weight: Tensor = link.weight  # type: ignore[assignment]  # a convolution or a linear layer
            if product is None:
                product = weight
            elif weight.ndim == 2:
                product = weight @ product
            elif getattr(link, "groups", 1) != 1:
                product = weight * product
            else:
                product = torch.einsum("omhw,mihw->oihw", weight, product)
        assert product is not None, "a chain has links"
        return product

    @property
    def bias(self) -> Tensor | None:
        """Bias of the last link, the only one that has a bias."""
        bias: Tensor | None = self[-1].bias  # type: ignore[assignment]  # a convolution or a linear layer
        return bias

    @property
    def in_channels(self) -> int:
        """Input channels of the first link, which may be pruned."""
        return int(self[0].in_channels)  # type: ignore[arg-type]  # or an AttributeError, as it should be

    @property
    def out_channels(self) -> int:
        """Output channels, or features, of the last link."""
        return int(self[-1].out_channels)  # type: ignore[arg-type]  # or an AttributeError, as it should be

    @property
    def in_features(self) -> int:
        """Input features of the first link."""
        return int(self[0].in_features)  # type: ignore[arg-type]  # or an AttributeError, as it should be

    @property
    def out_features(self) -> int:
        """Output channels, or features, of the last link."""
        return int(self[-1].out_features)  # type: ignore[arg-type]  # or an AttributeError, as it should be


def build(layer: Layer, links: Sequence[Link]) -> Chain:
    """The small layers, with unset weights, where `layer` is, of its type, mode and bias.

    What is learned in `layer` is learned in them, and what is frozen stays frozen.
    """
    tensor_options = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    layers: list[nn.Module] = []
    for link in links:
        bias = layer.bias is not None and link is links[-1]
        if isinstance(layer, nn.Linear):
            layers.append(nn.Linear(link.inputs, link.outputs, bias=bias, **tensor_options))
            continue
        sides = (link.vertical, link.horizontal)
        padding = layer.padding
        if not isinstance(padding, str):
            padding = _pair(padding, sides, 0)
        elif not any(sides):
            padding = (0, 0)
        layers.append(
            nn.Conv2d(
                link.inputs,
                link.outputs,
                _pair(layer.kernel_size, sides, 1),
                stride=_pair(layer.stride, sides, 1),
                padding=padding,
                dilation=_pair(layer.dilation, sides, 1),
                groups=link.inputs if link.depthwise else 1,
                bias=bias,
                **tensor_options,  # type: ignore[arg-type]  # a device and a type, which the dict hides
            )
        )
    chain = Chain(layer, layers).train(layer.training).requires_grad_(layer.weight.requires_grad)
    if layer.bias is not None:
        chain[-1].bias.requires_grad_(layer.bias.requires_grad)
    return chain


def count_weights(layer: Layer, links: Sequence[Link]) -> int:
    """Weights of a chain, without the bias."""
    return sum(_size(weight_shape(layer, link)) for link in links)


def count_macs(layer: Layer, links: Sequence[Link], calls: Sequence[Call]) -> int:
    """Multiply-adds of a chain for one image, summed over the calls of the layer."""
    total = 0
    for call in calls:
        rows, columns = call.rows, call.columns
        for link in links:
            rows = call.rows_out if link.vertical else rows
            columns = call.columns_out if link.horizontal else columns
            total += _size(weight_shape(layer, link)) * rows * columns
    return total


def layer_macs(layer: Layer, calls: Sequence[Call]) -> int:
    """Multiply-adds of the layer as it is."""
    return sum(layer.weight.numel() * call.rows_out * call.columns_out for call in calls)


def _pair(values: tuple[int, ...], sides: tuple[bool, bool], otherwise: int) -> tuple[int, int]:
    return values[0] if sides[0] else otherwise, values[1] if sides[1] else otherwise


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
