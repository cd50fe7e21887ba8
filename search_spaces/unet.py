"""Encoder and decoder with connections across, for a vector at each pixel (Ronneberger et al. 2015, arXiv 1505.04597).

Depth 2, width 16:

    image 3x32x32
    -> block of width 16                     16x32x32  --------------------------------+
    -> pooling, block of width 32            32x16x16  ------------+                   |
    -> pooling, block of width 64            64x8x8                |                   |
    -> twice as large, joined with          (64+32)x16x16  <-------+                   |
    -> block of width 32                     32x16x16                                  |
    -> twice as large, joined with          (32+16)x32x32  <---------------------------+
    -> block of width 16, 1x1 convolution    classes x32x32

Deviations from the paper, as the field builds them today: convolutions are padded and followed by batch norm, maps are
enlarged by repeating pixels, and a block may have a residual connection or depthwise convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from nasbench_registry import UserError, one_of
from search_spaces.blocks.layers import conv_bn
from search_spaces.core import Architecture, Decision, SearchSpace, Task

BLOCKS = ("plain", "residual", "separable")
LAST_SIDE = 2  # pixels that the smallest map keeps


class UNet(SearchSpace):
    """U-Nets for images: a number for each class and pixel; where a task wants one vector, the mean over the pixels.

    Images that are too small for a depth are halved as often as leaves two pixels.

    Args:
        blocks: Kinds of blocks: "plain", "residual", "separable".
        depths: Numbers of times that the image is halved.
        widths: Channels at the first resolution; each further one has twice as many.
        convolutions: Numbers of convolutions in a block.
        kernels: Odd sizes of the convolutions.
    """

    name = "unet"
    summary = "U-Nets that choose depth, width, block, kernel and convolutions of a block"
    source = "Ronneberger et al. 2015, arXiv 1505.04597"

    def __init__(
        self,
        *,
        blocks: Sequence[str] = BLOCKS,
        depths: Sequence[int] = (1, 2, 3, 4),
        widths: Sequence[int] = (8, 16, 24, 32),
        convolutions: Sequence[int] = (1, 2),
        kernels: Sequence[int] = (3, 5),
    ) -> None:
        for block in blocks:
            one_of("block of space 'unet'", block, BLOCKS)
        if min((*depths, *widths, *convolutions), default=0) < 1 or any(kernel % 2 == 0 for kernel in kernels):
            raise UserError(
                f"space 'unet' needs depths, widths and convolutions from 1 and odd kernels, not {list(depths)}, "
                f"{list(widths)}, {list(convolutions)} and {list(kernels)}."
            )
        self.blocks, self.depths, self.widths = tuple(blocks), tuple(depths), tuple(widths)
        self.convolutions, self.kernels = tuple(convolutions), tuple(kernels)
        self.decisions = (
            Decision("block", self.blocks),
            Decision("depth", self.depths),
            Decision("width", self.widths),
            Decision("convolutions", self.convolutions),
            Decision("kernel", self.kernels),
        )

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """See the module."""
        if len(task.input_shape) != 3:
            raise UserError(f"space 'unet' takes images (channels, height, width), and not {task.input_shape}.")
        choice = self.choices(arch)
        room = max(0, (min(task.input_shape[1:]) // LAST_SIDE).bit_length() - 1)
        widths = [choice["width"] * 2**level for level in range(1 + min(choice["depth"], room))]

        def block(channels: int, outputs: int) -> nn.Module:
            layers = [
                _layer(choice["block"], channels if index == 0 else outputs, outputs, choice["kernel"])
                for index in range(choice["convolutions"])
            ]
            return nn.Sequential(*layers)

        down = [
            block(channels, outputs) for channels, outputs in zip([task.input_shape[0], *widths], widths, strict=False)
        ]
        up = [block(low + high, high) for low, high in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True)]
        head: list[nn.Module] = [nn.Conv2d(widths[0], task.classes, 1)]
        if len(task.outputs[0].shape) == 1:
            head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[0], task.classes)]
        return UNetNetwork(nn.ModuleList(down), nn.ModuleList(up), nn.Sequential(*head))


def _layer(kind: str, channels: int, outputs: int, kernel: int) -> nn.Module:
    if kind == "separable":
        depthwise = conv_bn(channels, channels, kernel, groups=channels, activation=nn.ReLU)
        return nn.Sequential(depthwise, conv_bn(channels, outputs, 1, activation=nn.ReLU))
    if kind == "residual" and channels == outputs:
        return Residual(conv_bn(channels, outputs, kernel, activation=nn.ReLU))
    return conv_bn(channels, outputs, kernel, activation=nn.ReLU)


class Residual(nn.Module):
    """The input, and what a layer makes of it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) to the same shape."""
        return maps + self.layer(maps)  # type: ignore[no-any-return]  # a module gives anything


class UNetNetwork(nn.Module):
    """Blocks on the way down, each after the first behind a pooling, and on the way up, each behind an enlargement."""

    def __init__(self, down: nn.ModuleList, up: nn.ModuleList, head: nn.Module) -> None:
        super().__init__()
        self.down, self.up, self.head = down, up, head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) to (n, classes, height, width), or (n, classes)."""
        skips: list[torch.Tensor] = []
        maps = images
        for level, block in enumerate(self.down):
            maps = block(functional.max_pool2d(maps, 2) if level else maps)
            skips.append(maps)
        for block, across in zip(self.up, reversed(skips[:-1]), strict=True):
            larger = functional.interpolate(maps, size=across.shape[-2:], mode="nearest")
            maps = block(torch.cat([larger, across], dim=1))
        result: torch.Tensor = self.head(maps)
        return result
