"""Block modules: what a layer of a chain can be. One file a family, each with its paper.

Every block is made by ``block(inputs, outputs, kernel=..., stride=...)`` and maps (n, inputs, h, w) to
(n, outputs, ceil(h/stride), ceil(w/stride)). What a paper lets one choose besides is a keyword of its function or
class in the file of its family.
"""

from search_spaces.blocks.block import Block
from search_spaces.blocks.registry import BLOCKS, blocks, get_block

__all__ = ["BLOCKS", "Block", "blocks", "get_block"]
