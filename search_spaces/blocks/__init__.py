"""Block modules: what a layer of a chain can be. One file a family, each with its paper.

Every block is made by ``block(inputs, outputs, kernel=..., stride=...)`` and maps (n, inputs, h, w) to
(n, outputs, ceil(h/stride), ceil(w/stride)).
"""

from __future__ import annotations

from typing import Protocol

from torch import nn

from search_spaces.blocks.convolution import convolution
from search_spaces.blocks.depthwise_separable import depthwise_separable
from search_spaces.blocks.ghost_module import GhostModule
from search_spaces.blocks.identity import identity
from search_spaces.blocks.inverted_residual import (
    fused_inverted_residual,
    inverted_residual,
    inverted_residual_se,
)
from search_spaces.blocks.shuffle_unit import ShuffleUnit


class Block(Protocol):
    """What makes a block module."""

    def __call__(self, inputs: int, outputs: int, *, kernel: int = ..., stride: int = ...) -> nn.Module:
        """The block for these widths."""


BLOCKS: dict[str, Block] = {
    "convolution": convolution,
    "depthwise_separable": depthwise_separable,
    "inverted_residual": inverted_residual,
    "inverted_residual_se": inverted_residual_se,
    "fused_inverted_residual": fused_inverted_residual,
    "shuffle_unit": ShuffleUnit,
    "ghost_module": GhostModule,
    "identity": identity,
}

__all__ = ["BLOCKS", "Block"]
