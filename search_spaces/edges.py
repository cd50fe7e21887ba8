"""Spaces of operations on the edges of a graph: each builds its networks, and one network with every edge mixed.

A differentiable search trains the second one. A complete space of a user's own, two edges in a row:

    class Pair(EdgeSpace):
        name = "pair"
        decisions = (Decision("first", ("skip", "conv")), Decision("second", ("skip", "conv")))

        def assemble(self, task, edge):
            def operation(option):
                return nn.Identity() if option == "skip" else nn.Conv2d(16, 16, 3, padding=1)

            stem = nn.Conv2d(task.input_shape[0], 16, 3, padding=1)
            head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, task.classes))
            return nn.Sequential(stem, edge("first", operation), edge("second", operation), head)

`edge` may be called several times with the same name: a cell that is repeated has the same operation at each place.
"""

from __future__ import annotations

import heapq
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from search_spaces.core import MAX_TRIES, Architecture, NoValidArchitecture, SearchSpace
from search_spaces.task import Task

MakeOperation = Callable[[Any], nn.Module]
"""make(operation) -> its module."""
PlaceEdge = Callable[[str, MakeOperation], nn.Module]
"""edge(name, make) -> the module for an edge at one place of the network."""
Strengths = Mapping[str, npt.NDArray[np.float64]]
"""For each edge (operations,) numbers that add up to one: how much a search prefers each operation."""


class MixedEdge(NamedTuple):
    """An edge, and what may stand on it.

    Attributes:
        name: Name of the edge, unique in the space.
        operations: JSON values; what stands at each place of the network is made of them.
    """

    name: str
    operations: tuple[Any, ...]


class EdgeSpace(SearchSpace):
    """A space whose decisions are operations on the edges of a graph.

    A subclass defines `assemble` in place of `build`. Where the edges are not the decisions, as with cells that keep
    two inputs of each node, it also defines `edges`, `operations_of` and `derive`.
    """

    @abstractmethod
    def assemble(self, task: Task, edge: PlaceEdge) -> nn.Module:
        """The network whose edges are what `edge(name, make)` gives, for each place at which one stands.

        Args:
            task: Task of the network.
            edge: Function that gives the module for the edge of that name, of those that `make(operation)` makes: one
                of them, or all of them, mixed. Each keeps the shape that all others of this place give.
        """

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """The network of an architecture."""
        chosen = self.choices(arch)
        return self.assemble(task, lambda name, make: make(chosen[name]))

    def edges(self) -> tuple[MixedEdge, ...]:
        """Every edge with its operations; here the decisions."""
        return tuple(MixedEdge(decision.name, decision.options) for decision in self.decisions)

    def operations_of(self, arch: Architecture) -> dict[str, int]:
        """For each edge the index of its operation in an architecture."""
        return {edge.name: pick for edge, pick in zip(self.edges(), arch.picks, strict=True)}

    def derive(self, strengths: Strengths) -> Architecture:
        """The architecture that a search prefers: here the valid one with the largest product of strengths.

        Raises:
            NoValidArchitecture: None of the `MAX_TRIES` with the largest products is valid.
        """
        logs = [np.log(np.maximum(strengths[edge.name], 1e-300)) for edge in self.edges()]
        orders = [np.argsort(-log_strengths, kind="stable") for log_strengths in logs]

        def loss(ranks: tuple[int, ...]) -> float:
            return -sum(
                float(log_strengths[order[rank]])
                for log_strengths, order, rank in zip(logs, orders, ranks, strict=True)
            )

        first = (0,) * len(logs)
        waiting, visited = [(loss(first), first)], {first}
        for _ in range(MAX_TRIES):
            if not waiting:
                break
            _, ranks = heapq.heappop(waiting)
            picks = tuple(int(order[rank]) for order, rank in zip(orders, ranks, strict=True))
            arch = Architecture(self.name, picks)
            if self.is_valid(arch):
                return arch
            for index, rank in enumerate(ranks):
                following = (*ranks[:index], rank + 1, *ranks[index + 1 :])
                if rank + 1 < len(orders[index]) and following not in visited:
                    visited.add(following)
                    heapq.heappush(waiting, (loss(following), following))
        raise NoValidArchitecture(
            f"none of the {MAX_TRIES} architectures of space {self.name!r} that the search prefers is valid; loosen "
            f"its is_valid(), or define derive()."
        )


class Zero(nn.Module):
    """The operation that gives zeros: (n, c, h, w) -> (n, c, ceil(h/stride), ceil(w/stride)).

    Args:
        stride: Stride of the edge.
    """

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zeros."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride] if self.stride > 1 else x)
