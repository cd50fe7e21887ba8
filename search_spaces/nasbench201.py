"""NAS-Bench-201: one cell of four nodes, six edges and five operations, repeated (Dong & Yang 2020, arXiv 2001.00326).

The network is a 3x3 stem, three stages of equal cells with a stride-two residual block between stages, batch norm,
ReLU, global average pooling and a linear layer. The paper trains it with 16 channels and five cells a stage.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, partial
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nasbench_registry import UserError, one_of, unknown
from search_spaces.core import MAX_TRIES, Architecture, Decision, Task
from search_spaces.diagram import Edge, Graph, Node, network_chain
from search_spaces.edges import EdgeSpace, PlaceEdge, Zero
from search_spaces.paths import BROKEN, SKIP, PathGraphs

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
LABELS = {
    "skip_connect": "skip",
    "nor_conv_1x1": "conv 1x1",
    "nor_conv_3x3": "conv 3x3",
    "avg_pool_3x3": "avg pool 3x3",
}
ZERO = "#"
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))  # (node, its input)
ON_A_PATH = np.array([BROKEN, SKIP, 0, 1, 2])  # what each operation is to `path_counts`
MUTATIONS = ("edge", "node")


class NASBench201(EdgeSpace):
    """The 15,625 cells of NAS-Bench-201, in the notation ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

    Args:
        channels: Width of the first stage; the paper uses 16.
        cells: Number of cells in each of the three stages; the paper uses 5.
        mutation: How a mutation draws an edge: "edge" changes one of the six edges, each with the same probability;
            "node" draws one of the three nodes and then one of its incoming edges, as the authors' search scripts do,
            so that the edges have the probabilities 1/3, 1/6, 1/6, 1/9, 1/9 and 1/9.
        merge_equal: Whether cells that compute the same are one network (`canonical`). False is for tables with the
            costs of each cell as it is written, for a device runs equal cells at different costs.
    """

    name = "nasbench201"
    images_to_vectors = True
    decisions = tuple(Decision(f"{node}<-{source}", OPERATIONS) for node, source in EDGES)
    summary = "one cell of 6 edges with 5 operations, repeated: 15,625 architectures"
    source = "Dong & Yang 2020, arXiv 2001.00326"

    def __init__(self, *, channels: int = 16, cells: int = 5, mutation: str = "edge", merge_equal: bool = True) -> None:
        if channels < 1 or cells < 1:
            raise UserError(f"channels={channels} and cells={cells} of space 'nasbench201' must both be 1 or more.")
        self.channels, self.cells = channels, cells
        self.mutation = one_of("mutation", mutation, MUTATIONS)
        if not isinstance(merge_equal, bool):
            raise UserError(f"merge_equal={merge_equal!r} of space 'nasbench201' must be true or false.")
        self.merge_equal = merge_equal

    def assemble(self, task: Task, edge: PlaceEdge) -> nn.Module:
        """The network of the paper around cells with these edges."""
        width = self.channels
        blocks: list[nn.Module] = []
        for stage in range(3):
            if stage > 0:
                blocks.append(Reduction(width, 2 * width))
                width *= 2
            make = partial(_operation, inputs=width, outputs=width)
            blocks += [Cell([edge(decision.name, make) for decision in self.decisions]) for _ in range(self.cells)]
        return skeleton(self.channels, blocks, width, task)

    def operations(self, arch: Architecture) -> list[str]:
        """The operation on each edge, in the order of `EDGES`."""
        return list(self.choices(arch).values())

    def mutate(self, arch: Architecture, rng: np.random.Generator, max_tries: int = MAX_TRIES) -> Architecture:
        """The same cell with another operation on one edge; how the edge is drawn, `mutation` says."""
        if self.mutation == "edge":
            return super().mutate(arch, rng, max_tries)
        node = int(rng.integers(1, 4))
        edge = node * (node - 1) // 2 + int(rng.integers(node))  # the edges of `EDGES` that lead to the node
        pick = int(rng.integers(len(OPERATIONS) - 1))
        pick += pick >= arch.picks[edge]
        return Architecture(self.name, (*arch.picks[:edge], pick, *arch.picks[edge + 1 :]))

    def diagram(self, arch: Architecture, task: Task) -> tuple[Graph, ...]:
        """The cell, and the chain of cells."""
        return cell_graph(self.operations(arch)), skeleton_graph(self.build(arch, task), task)

    def format(self, arch: Architecture) -> str:
        """The string of the paper."""
        self.require_valid(arch)
        nodes: dict[int, str] = {}
        for (node, source), pick in zip(EDGES, arch.picks, strict=True):
            nodes[node] = nodes.get(node, "|") + f"{OPERATIONS[pick]}~{source}|"
        return "+".join(nodes.values())

    def parse(self, text: str) -> Architecture:
        """The architecture behind a string of the paper."""
        tokens = re.findall(r"([^|+~]+)~(\d+)", text)
        picks = []
        for operation, _ in tokens:
            if operation not in OPERATIONS:
                raise unknown("operation", operation, OPERATIONS, where=f"in {text!r}")
            picks.append(OPERATIONS.index(operation))
        arch = Architecture(self.name, tuple(picks))
        if len(picks) != len(EDGES) or self.format(arch) != text.strip():
            raise UserError(f"{text!r} is not a NAS-Bench-201 cell; write |op~0|+|op~0|op~1|+|op~0|op~1|op~2|.")
        return arch

    def canonical(self, arch: Architecture) -> Architecture:
        """The architecture with the same cell and the fewest weights, of several the first in the order of the picks.

        Two cells are the same when they agree after a skip connection is replaced by its input, an operation on
        nothing by zero, and the inputs of a node are put in order: the 6,466 distinct cells that the paper counts.
        (A node with one zero among its inputs stays apart from the node without it, as in the paper; and the batch
        norm behind an operation on nothing could learn a constant, which the paper does not count either.) Without
        `merge_equal`, it is the cell itself.
        """
        self.require_valid(arch)
        if not self.merge_equal:
            return arch
        return self._representatives[_expression(arch.picks)]

    @cached_property
    def _representatives(self) -> dict[str, Architecture]:
        first: dict[str, Architecture] = {}
        for picks in sorted(product(range(len(OPERATIONS)), repeat=len(EDGES)), key=_weights):
            first.setdefault(_expression(picks), Architecture(self.name, picks))
        return first

    def graph_features(self, archs: Sequence[Architecture]) -> npt.NDArray[np.float64]:
        """Counts of all paths from the first node to the last: (n, 40)."""
        return self.path_graphs(archs)[0].path_counts()

    def path_graphs(self, archs: Sequence[Architecture]) -> tuple[PathGraphs, ...]:
        """The cells, three operations on the edges beside the skip connection."""
        picks = np.array([arch.picks for arch in archs], dtype=np.int64).reshape(len(archs), len(EDGES))
        edges = np.full((len(archs), 4, 4), BROKEN)
        for position, (node, source) in enumerate(EDGES):
            edges[:, source, node] = ON_A_PATH[picks[:, position]]
        return (PathGraphs(edges, sources=(0,), targets=(3,), operations=3, longest=3),)


def _weights(picks: tuple[int, ...]) -> int:
    """Weights of a cell, in units of a 1x1 convolution."""
    return sum({"nor_conv_1x1": 1, "nor_conv_3x3": 9}.get(OPERATIONS[pick], 0) for pick in picks)


def _expression(picks: tuple[int, ...]) -> str:
    """The output of a cell as a formula in which equal cells read the same."""
    nodes = ["0", "", "", ""]
    for node in (1, 2, 3):
        terms = []
        for (target, source), pick in zip(EDGES, picks, strict=True):
            if target == node:
                operation, term = OPERATIONS[pick], nodes[source]
                if operation == "none" or term == ZERO:
                    terms.append(ZERO)
                else:
                    terms.append(term if operation == "skip_connect" else f"({term})@{operation}")
        nodes[node] = "+".join(sorted(terms))
    return nodes[3]


def cell_graph(operations: Sequence[str]) -> Graph:
    """The four nodes, and the operations that are not "none"; a node that no operation leads to is zero."""
    kinds = ("input", "value", "value", "output")
    reached = {node for (node, _), operation in zip(EDGES, operations, strict=True) if operation != "none"}
    details = ["", *("sum" if node in reached else "zero" for node in (1, 2, 3))]
    nodes = tuple(Node(f"node{node}", str(node), details[node], kind) for node, kind in enumerate(kinds))
    edges = tuple(
        Edge(f"node{source}", f"node{node}", LABELS[operation])
        for (node, source), operation in zip(EDGES, operations, strict=True)
        if operation != "none"
    )
    return Graph("cell", nodes, edges)


def skeleton(stem: int, blocks: Sequence[nn.Module], width: int, task: Task) -> nn.Sequential:
    """A 3x3 stem of `stem` channels, the blocks, and the classifier on the `width` channels that they give."""
    return nn.Sequential(
        nn.Conv2d(task.input_shape[0], stem, 3, padding=1, bias=False),
        nn.BatchNorm2d(stem),
        *blocks,
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, task.classes),
    )


def skeleton_graph(network: nn.Module, task: Task) -> Graph:
    """The chain of the parts of a network that `skeleton` made."""
    names: dict[type[nn.Module], tuple[str, str]] = {
        nn.Conv2d: ("conv 3x3", "stem"),
        nn.BatchNorm2d: ("batch norm", ""),
        Cell: ("cell", ""),
        Reduction: ("residual block", "stride 2"),
        nn.ReLU: ("relu", ""),
        nn.AdaptiveAvgPool2d: ("average pool", "global"),
        nn.Flatten: ("flatten", ""),
        nn.Linear: ("linear", ""),
    }
    return network_chain("network", network, task, [names[type(part)] for part in network.children()])


class Cell(nn.Module):
    """Four nodes; each sums the operations on its incoming edges: (n, inputs, h, w) -> (n, outputs, h, w).

    Args:
        operations: Module on each of `EDGES`; where a `Zero` stands, there is no edge.
    """

    def __init__(self, operations: Sequence[nn.Module]) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                f"{node}_{source}": operation
                for (node, source), operation in zip(EDGES, operations, strict=True)
                if not isinstance(operation, Zero)
            }
        )

    @classmethod
    def of(cls, operations: Sequence[str], inputs: int, outputs: int) -> Cell:
        """A cell of these operations, of which those on the input change the width, as in NATS-Bench.

        Where the widths differ, a node that nothing reaches has no shape, and "none" is not for such cells.
        """
        if inputs != outputs and "none" in operations:
            raise UserError(
                f"a cell from {inputs} to {outputs} channels has the operation 'none', and a node that nothing reaches "
                f"has no shape there; give another operation, or as many channels on both sides."
            )
        return cls(
            [
                _operation(operation, outputs if source else inputs, outputs)
                for (_, source), operation in zip(EDGES, operations, strict=True)
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The value of the last node; a node that nothing reaches is zero."""
        nodes = [x]
        for node in (1, 2, 3):
            keys = [(f"{node}_{source}", source) for source in range(node)]
            terms = [self.edges[key](nodes[source]) for key, source in keys if key in self.edges]
            total = torch.zeros_like(x) if not terms else terms[0]
            for term in terms[1:]:
                total = total + term
            nodes.append(total)
        return nodes[3]


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    # Not in place: the input of an edge is also the input of other edges.
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


def _operation(name: str, inputs: int, outputs: int) -> nn.Module:
    """An operation; skip connection and pooling change the width by a 1x1 convolution, the former without ReLU."""
    if name == "none":
        return Zero()
    if name == "skip_connect":
        return nn.Identity() if inputs == outputs else _convolution(inputs, outputs, 1)[1:]
    if name == "avg_pool_3x3":
        pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        return pool if inputs == outputs else nn.Sequential(_convolution(inputs, outputs, 1), pool)
    return _convolution(inputs, outputs, 1 if name == "nor_conv_1x1" else 3)


class Reduction(nn.Module):
    """The residual block of stride two between stages: (n, inputs, h, w) -> (n, outputs, ceil(h/2), ceil(w/2))."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolution(inputs, outputs, 3, 2), _convolution(outputs, outputs, 3))
        # ceil_mode, so that odd sizes agree with the strided convolution; for even sizes it is the paper's pooling.
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(inputs, outputs, 1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of body and shortcut."""
        out: torch.Tensor = self.shortcut(x) + self.body(x)
        return out
