"""Residual networks whose stages choose depth and width (He et al. 2016, arXiv 1512.03385).

By default the CIFAR networks of the paper (section 4.2) and those around them. ResNet-20, ``basic-3,3,3-16,32,64``:

    image 3x32x32
    -> 3x3 convolution                             16x32x32
    -> 3 residual blocks of width 16               16x32x32
    -> 3 residual blocks of width 32, stride 2     32x16x16
    -> 3 residual blocks of width 64, stride 2     64x8x8
    -> pooling, linear layer

Images of 64 pixels and more first go through the stem of the paper's ImageNet networks, a 7x7 convolution and a 3x3 max
pooling of stride two each; with four stages and ``shortcut="projection"``, ResNet-18, -34, -50 and so on are in the
space. The stride of a bottleneck is on its 3x3 convolution, not on the first 1x1, as the field builds them today.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from nasbench_registry import UserError, one_of
from search_spaces.blocks.layers import conv_bn
from search_spaces.blocks.resnet import resnet_basic, resnet_bottleneck
from search_spaces.chains import read_choices, read_lists
from search_spaces.core import Architecture, Decision, SearchSpace, Task
from search_spaces.diagram import Graph, network_chain

EXPANSION = {"basic": 1, "bottleneck": 4}  # channels that a block gives, over its width
SHORTCUTS = ("padding", "projection")
LARGE = 64  # pixels from which images get the stem of the ImageNet networks


class ResNet(SearchSpace):
    """Written as block, depths and widths of the stages: ``basic-9,9,9-16,32,64`` is ResNet-56.

    The width of a bottleneck is that of its 3x3 convolution; the block gives four times as many channels.

    Args:
        blocks: Kinds of blocks: "basic", "bottleneck".
        depths: Numbers of blocks that a stage may have.
        widths: Widths that each stage may have.
        shortcut: Shortcut around a block that changes the shape. "padding" (option A of the paper, its CIFAR networks)
            has no parameters: it takes every second pixel and adds channels of zeros, so widths must not fall from
            stage to stage. "projection" (option B) is a 1x1 convolution with batch norm.
    """

    name = "resnet"
    images_to_vectors = True
    summary = "residual networks whose stages choose depth and width"
    source = "He et al. 2016, arXiv 1512.03385"

    def __init__(
        self,
        *,
        blocks: Sequence[str] = ("basic", "bottleneck"),
        depths: Sequence[int] = (1, 2, 3, 5, 7, 9, 12, 18),
        widths: Sequence[Sequence[int]] = ((8, 12, 16, 24, 32), (16, 24, 32, 48, 64), (32, 48, 64, 96, 128)),
        shortcut: str = "padding",
    ) -> None:
        for block in blocks:
            one_of("block of space 'resnet'", block, EXPANSION)
        if not depths or min(depths) < 1 or not widths or any(not stage or min(stage) < 1 for stage in widths):
            raise UserError(
                f"space 'resnet' needs depths from 1, and for each stage a list of widths from 1, not {list(depths)} "
                f"and {[list(stage) for stage in widths]}."
            )
        self.shortcut = one_of("shortcut of space 'resnet'", shortcut, SHORTCUTS)
        self.blocks, self.depths, self.widths = tuple(blocks), tuple(depths), tuple(map(tuple, widths))
        self.stages = len(self.widths)
        self.decisions = (
            Decision("block", self.blocks),
            *(Decision(f"depth{stage}", self.depths) for stage in range(self.stages)),
            *(Decision(f"width{stage}", options) for stage, options in enumerate(self.widths)),
        )

    def is_valid(self, arch: Architecture) -> bool:
        """With padding, no stage may be narrower than the one before."""
        if not super().is_valid(arch):
            return False
        if self.shortcut != "padding":
            return True
        at = 1 + self.stages
        widths = [d.options[pick] for d, pick in zip(self.decisions[at:], arch.picks[at:], strict=True)]
        return all(a <= b for a, b in pairwise(widths))

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """Stem, stages of blocks, global average pooling, linear layer."""
        block, depths, widths = self._read(arch)
        channels = widths[0]
        modules: list[nn.Module] = [_stem(task, channels)]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                modules.append(_block(block, channels, width, stride, self.shortcut))
                channels = EXPANSION[block] * width
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(*modules, pool, nn.Linear(channels, task.classes))

    def _read(self, arch: Architecture) -> tuple[str, list[int], list[int]]:
        """Block, depths and widths."""
        block, *numbers = self.choices(arch).values()
        return block, numbers[: self.stages], numbers[self.stages :]

    def format(self, arch: Architecture) -> str:
        """The notation, such as ``basic-9,9,9-16,32,64``."""
        block, depths, widths = self._read(arch)
        return f"{block}-{','.join(map(str, depths))}-{','.join(map(str, widths))}"

    def parse(self, text: str) -> Architecture:
        """The architecture behind the notation of `format`."""
        block, depths, widths = read_lists(text, ("", "", ""), "basic-9,9,9-16,32,64")
        written = [*block, *depths, *widths]
        if not len(depths) == len(widths) == self.stages or len(block) != 1:
            raise UserError(f"{text!r} must have a block, then {self.stages} depths, then {self.stages} widths.")
        chosen = {decision.name: option for decision, option in zip(self.decisions, written, strict=True)}
        try:
            return read_choices(self, chosen, text)
        except UserError:
            if self.shortcut == "padding" and all(width.isdecimal() for width in widths):
                numbers = [int(width) for width in widths]
                if numbers != sorted(numbers):
                    raise UserError(
                        f"{text!r} has a stage that is narrower than the one before, which shortcut='padding' cannot "
                        f"bridge; use shortcut='projection'."
                    ) from None
            raise

    def diagram(self, arch: Architecture, task: Task) -> tuple[Graph, ...]:
        """The chain of its blocks."""
        block, depths, widths = self._read(arch)
        label = "residual block" if block == "basic" else "bottleneck"
        labels = [("stem" if _is_large(task) else "convolution", "7x7 and pooling" if _is_large(task) else "3x3")]
        labels += [(label, f"w{width}") for depth, width in zip(depths, widths, strict=True) for _ in range(depth)]
        labels += [("average pooling", ""), ("linear", "")]
        return (network_chain("network", self.build(arch, task), task, labels),)


def _is_large(task: Task) -> bool:
    return min(task.input_shape[1:]) >= LARGE


def _stem(task: Task, width: int) -> nn.Module:
    if _is_large(task):
        convolution = conv_bn(task.input_shape[0], width, 7, stride=2, activation=nn.ReLU)
        return nn.Sequential(convolution, nn.MaxPool2d(3, 2, 1))
    return conv_bn(task.input_shape[0], width, 3, activation=nn.ReLU)


def _block(block: str, inputs: int, width: int, stride: int, shortcut: str) -> nn.Module:
    outputs = EXPANSION[block] * width
    make = resnet_basic if block == "basic" else resnet_bottleneck
    module = make(inputs, outputs, stride=stride)
    if shortcut == "padding" and (stride > 1 or inputs != outputs):
        module.shortcut = _PaddedShortcut(stride, outputs - inputs)  # in place of the block's own projection
    return module


class _PaddedShortcut(nn.Module):
    """(n, c, h, w) -> (n, c + zeros, ceil(h/stride), ceil(w/stride))."""

    def __init__(self, stride: int, zeros: int) -> None:
        super().__init__()
        self.stride, self.zeros = stride, zeros

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.zeros))
