"""Networks for rows of a table, with or without residual connections (Gorishniy et al. 2021, arXiv 2106.11959).

The residual ones are the paper's ResNet for tables. Depth 2, width 64, expansion 2:

    row of 10 values
    -> linear layer                                                                    64
    -> 2 blocks: x + linear(dropout(ReLU(linear(batch norm(x)))))    64 -> 128 -> 64
    -> batch norm, ReLU, linear layer                                                  outputs

Without residual connections a block is a linear layer, batch norm, ReLU and dropout, and expansion does not matter.
The paper normalises and drops out in the same places; it has a second dropout at the end of a block, left out here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from nasbench_registry import UserError
from search_spaces.core import Architecture, Decision, SearchSpace, Task

PLAIN, RESIDUAL = "plain", "residual"


class MLP(SearchSpace):
    """Blocks of linear layers for inputs of any shape, which are flattened, and any one vector as output.

    Args:
        blocks: Kinds of blocks: "plain", "residual".
        depths: Numbers of blocks that a network may have.
        widths: Numbers of values between the blocks.
        expansions: Expansions of the layer inside of a residual block, as multiples of the width.
        dropout: Share of the values that is dropped in training, from 0 to below 1.
    """

    name = "mlp"
    summary = "linear layers for rows of a table, with or without residual connections"
    source = "Gorishniy et al. 2021, arXiv 2106.11959"

    def __init__(
        self,
        *,
        blocks: Sequence[str] = (PLAIN, RESIDUAL),
        depths: Sequence[int] = (1, 2, 3, 4),
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        expansions: Sequence[float] = (1, 2),
        dropout: float = 0.1,
    ) -> None:
        if set(blocks) - {PLAIN, RESIDUAL} or min((*depths, *widths), default=0) < 1 or not 0 <= dropout < 1:
            raise UserError(
                f"space 'mlp' needs blocks of {PLAIN!r} and {RESIDUAL!r}, depths and widths from 1 and a dropout from "
                f"0 to below 1, not {list(blocks)}, {list(depths)}, {list(widths)} and {dropout}."
            )
        self.blocks, self.depths, self.widths = tuple(blocks), tuple(depths), tuple(widths)
        self.expansions, self.dropout = tuple(expansions), dropout
        self.decisions = (
            Decision("block", self.blocks),
            Decision("depth", self.depths),
            Decision("width", self.widths),
            *((Decision("expansion", self.expansions, {"block": RESIDUAL}),) if RESIDUAL in blocks else ()),
        )

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """Flatten, linear layer, blocks, linear layer."""
        choice = self.choices(arch)
        values, width = math.prod(task.input_shape), choice["width"]
        layers: list[nn.Module] = [nn.Flatten()] if len(task.input_shape) > 1 else []
        if choice["block"] == RESIDUAL:
            inner = max(1, round(width * choice["expansion"]))
            layers += [nn.Linear(values, width)]
            layers += [ResidualBlock(width, inner, self.dropout) for _ in range(choice["depth"])]
            layers += [nn.BatchNorm1d(width), nn.ReLU()]
        else:
            for _ in range(choice["depth"]):
                layers += [nn.Linear(values, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(self.dropout)]
                values = width
        return nn.Sequential(*layers, nn.Linear(width, task.classes))


class ResidualBlock(nn.Module):
    """(n, width) to the same shape: the input, and what two linear layers make of it."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.first, self.second = nn.Linear(width, inner), nn.Linear(inner, width)
        self.activation, self.dropout = nn.ReLU(), nn.Dropout(dropout)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """See the class."""
        inside: torch.Tensor = self.second(self.dropout(self.activation(self.first(self.norm(values)))))
        return values + inside
