"""One network with every operation on every edge."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasbench_registry import UserError
from search_spaces import EdgeSpace, MixedEdge, Task, Zero


@dataclass(frozen=True)
class EdgeWeights:
    """How the operations of an edge are mixed in a forward pass.

    Attributes:
        weights: (operations,) factor of each output; None multiplies by one.
        only: Index of the only operation that is computed; None computes all.
    """

    weights: torch.Tensor | None = None
    only: int | None = None


class Mixture:
    """The weights of all edges, which every place of an edge reads.

    Attributes:
        edges: Weights of the edges, by name.
    """

    def __init__(self) -> None:
        self.edges: Mapping[str, EdgeWeights] = {}

    def set(self, edges: Sequence[MixedEdge], weights: Sequence[EdgeWeights]) -> None:
        """Give each edge its weights."""
        self.edges = {edge.name: edge_weights for edge, edge_weights in zip(edges, weights, strict=True)}

    def fix(self, operations: Mapping[str, int]) -> None:
        """Compute one operation on each edge, as in the network of one architecture.

        Args:
            operations: Index of the operation, by edge.
        """
        self.edges = {name: EdgeWeights(only=index) for name, index in operations.items()}


class MixedOperation(nn.Module):
    """All operations of an edge at one place of a network, their outputs weighed and added.

    Args:
        name: Name of the edge.
        operations: Operations in the order of the edge's options.
        mixture: Mixture with the weights of the edges.
    """

    def __init__(self, name: str, operations: Sequence[nn.Module], mixture: Mixture) -> None:
        super().__init__()
        self.name, self._mixture = name, mixture
        self.operations = nn.ModuleList(operations)

    def forward(self, *inputs: Any) -> torch.Tensor:
        """The weighed sum, of the shape that all operations give."""
        chosen = self._mixture.edges[self.name]
        if chosen.only is not None:
            out: torch.Tensor = self.operations[chosen.only](*inputs)
            return out if chosen.weights is None else out * chosen.weights[chosen.only]
        assert chosen.weights is not None, "all operations are computed, so each has a weight"
        terms: list[torch.Tensor] = [
            weight * operation(*inputs)
            for weight, operation in zip(chosen.weights.unbind(), self.operations, strict=True)
            if not isinstance(operation, Zero)
        ]
        if not terms:
            zeros: torch.Tensor = self.operations[0](*inputs)
            return zeros
        return functools.reduce(torch.add, terms)


def mixed_network(space: EdgeSpace, task: Task, mixture: Mixture, seed: int) -> nn.Module:
    """The network of a space with every edge mixed; the global generator stays as it was.

    Batch norms always normalize by the batch, for what passes through them changes with the mixture; those of the
    operations have no scale of their own, which would do what the weights are there for.

    Args:
        space: Search space of the edges.
        task: Task of the network.
        mixture: Mixture with the weights of the edges.
        seed: Random seed of the weights.

    Raises:
        UserError: An edge of the space is at no place of its network.
    """
    edges = {edge.name: edge for edge in space.edges()}
    placed: set[str] = set()

    def place(name: str, make: Callable[[Any], nn.Module]) -> nn.Module:
        if name not in edges:
            raise UserError(f"space {space.name!r} places the edge {name!r}, which is not among its edges().")
        placed.add(name)
        return MixedOperation(name, [make(operation) for operation in edges[name].operations], mixture)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = space.assemble(task, place)
    missing = [name for name in edges if name not in placed]
    if missing:
        raise UserError(
            f"space {space.name!r} has the decision {missing[0]!r}, which its assemble() places on no edge; a "
            f"differentiable search decides operations on edges only."
        )
    for module in network.modules():
        if isinstance(module, MixedOperation):
            for inner in module.operations.modules():
                if isinstance(inner, _BatchNorm):
                    inner.affine = False
                    inner.register_parameter("weight", None)
                    inner.register_parameter("bias", None)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return network
