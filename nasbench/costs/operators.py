"""The convolutions and linear layers of networks, with the shapes at which they run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

KINDS = ("pointwise", "dense", "depthwise", "grouped", "linear")


@dataclass(frozen=True)
class Operator:
    """A convolution, or a linear layer, with the shapes at which it runs for one image.

    Attributes:
        inputs: Shape of the input: (channels, height, width) of a convolution; (1, rows, features) of a linear layer.
        outputs: Number of output channels or features.
        kernel: Kernel size (height, width), as are the next three; None for a linear layer.
        stride: Stride of the kernel.
        padding: Zeros on each side.
        dilation: Dilation of the kernel.
        groups: Number of groups of the channels.
    """

    inputs: tuple[int, int, int]
    outputs: int
    kernel: tuple[int, int] | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def kind(self) -> str:
        """One of `KINDS`, which runtimes compute in ways of their own."""
        if self.kernel is None:
            return "linear"
        if self.groups > 1:
            return "depthwise" if self.groups == self.inputs[0] else "grouped"
        return "pointwise" if self.kernel == (1, 1) else "dense"

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        if self.kernel is None:
            return math.prod(self.inputs) * self.outputs
        height, width = (
            (size + 2 * pad - step * (kernel - 1) - 1) // stride + 1
            for size, pad, step, kernel, stride in zip(
                self.inputs[1:], self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        return height * width * self.outputs * self.inputs[0] // self.groups * math.prod(self.kernel)

    def network(self) -> nn.Module:
        """A network of this operator alone, for images of shape `inputs`; with a bias, as folded norms give."""
        if self.kernel is None:
            return nn.Sequential(nn.Flatten(0, 2), nn.Linear(self.inputs[2], self.outputs))
        return nn.Conv2d(
            self.inputs[0], self.outputs, self.kernel, self.stride, self.padding, self.dilation, self.groups
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Operator:
        """The operator that `dataclasses.asdict` gave, also after JSON has made lists of its tuples."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return cls(**fields)


def operator_of(name: str, args: Sequence[Any], out: torch.Tensor) -> Operator | None:
    """The operator in a call that a dispatch mode sees; None for everything else, such as 3-D convolutions.

    Args:
        name: Name of the ATen operator.
        args: Arguments that it is called with, for one image.
        out: Result of the call.
    """
    if name == "convolution" and out.dim() == 4 and not args[6]:  # 6: transposed
        image, weight = args[0], args[1]
        pairs = ((int(pair[0]), int(pair[-1])) for pair in (weight.shape[2:], *args[3:6]))
        kernel, stride, padding, dilation = pairs
        shape = (int(image.shape[1]), int(image.shape[2]), int(image.shape[3]))
        return Operator(shape, int(out.shape[1]), kernel, stride, padding, dilation, int(args[8]))
    if name in ("addmm", "mm"):
        factor = args[1] if name == "addmm" else args[0]
        return Operator((1, int(factor.shape[0]), int(factor.shape[1])), int(out.shape[1]))
    return None
