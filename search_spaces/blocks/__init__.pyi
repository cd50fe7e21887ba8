from search_spaces.blocks.block import Block as Block
from search_spaces.blocks.registry import BLOCKS as BLOCKS, blocks as blocks, get_block as get_block
