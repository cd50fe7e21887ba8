"""The drawing of an architecture: graphs of nodes and edges, without any geometry."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search_spaces.task import Task

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Node:
    """A box of a graph.

    Attributes:
        name: Name of the node, unique in the graph.
        label: Text in the box, such as "inverted residual".
        detail: Smaller second line, such as "k5 e6, 24x56x56"; may be empty.
        kind: Kind of the node: "input", "output", "layer", or "value" (a feature map that operations are applied to).
    """

    name: str
    label: str
    detail: str = ""
    kind: str = "layer"


@dataclass(frozen=True)
class Edge:
    """An arrow from one node to another, by name; `label` is the operation on it, if there is one."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True)
class Graph:
    """One picture: a cell, or the chain of layers of a network.

    Attributes:
        title: Title above the picture.
        nodes: Nodes in an order that suits reading.
        edges: Edges, without cycles; two nodes may be joined by several.
    """

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @property
    def is_chain(self) -> bool:
        """Whether each node leads to the next one and to no other."""
        follows = [(edge.source, edge.target) for edge in self.edges]
        names = [node.name for node in self.nodes]
        return follows == list(itertools.pairwise(names))


def chain(title: str, nodes: Sequence[Node]) -> Graph:
    """The graph in which each node leads to the next one."""
    edges = tuple(Edge(a.name, b.name) for a, b in itertools.pairwise(nodes))
    return Graph(title, tuple(nodes), edges)


def shape_text(shape: Sequence[int]) -> str:
    """The sizes of a shape as text, such as 24x56x56."""
    return "x".join(str(int(size)) for size in shape)


def network_chain(title: str, network: nn.Module, task: Task, labels: Sequence[tuple[str, str]] | None = None) -> Graph:
    """A chain of the parts of a network with the shapes that they give, found by running it on one image.

    Args:
        title: Title of the graph.
        network: Network whose direct parts are the nodes, in the order in which they are called.
        task: Task with the shape of the image.
        labels: Label and detail of each part that is called, in that order; by default its class.
    """
    import torch

    called: list[tuple[str, Sequence[int]]] = []

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            called.append((type(module).__name__, tuple(output.shape[1:])))

    handles = [part.register_forward_hook(record) for part in network.children()]
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        with torch.no_grad():
            network(*task.example())
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return chain(title, list(_nodes(called, task, labels)))


def _nodes(
    called: Sequence[tuple[str, Sequence[int]]], task: Task, labels: Sequence[tuple[str, str]] | None
) -> Iterator[Node]:
    yield Node("input", "image" if len(task.input_shape) == 3 else "input", shape_text(task.input_shape), "input")
    for index, (kind, shape) in enumerate(called):
        label, detail = labels[index] if labels is not None and index < len(labels) else (kind, "")
        last = index == len(called) - 1
        text = ", ".join(part for part in (detail, shape_text(shape)) if part)
        yield Node(f"layer{index}", label, text, "output" if last else "layer")
