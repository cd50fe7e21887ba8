"""DARTS: a normal and a reduction cell of four nodes, repeated (Liu, Simonyan & Yang 2019, arXiv 1806.09055).

A cell reads the outputs 0 and 1 of the two cells before it. Each of its nodes 2 to 5 adds two operations on different
earlier nodes, and the cell gives the concatenation of these four. It is written as in the paper's repository, two pairs
of operation and input for each node in turn:

    normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('max_pool_3x3', 0), ('sep_conv_3x3', 2), ...]

                   node 2 = sep_conv_3x3(0) + skip_connect(1)      node 3 = max_pool_3x3(0) + sep_conv_3x3(2)

Reduction cells stand at one and at two thirds of the depth; they halve the resolution and double the channels. Images
of 128 pixels and more get the stem of the paper's ImageNet network, which halves them three times; smaller ones that of
its CIFAR-10 network, which keeps their size. What the paper adds for training is left out: dropping paths, and the
auxiliary classifier (so it is not among the parameters, as in the paper's tables).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import combinations, permutations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nasbench_registry import UserError, one_of, unknown
from search_spaces.cell_graphs import distinct_labelings
from search_spaces.core import Architecture, Decision, Task
from search_spaces.diagram import Edge, Graph, Node, network_chain
from search_spaces.edges import EdgeSpace, MixedEdge, PlaceEdge, Strengths, Zero
from search_spaces.language import inside
from search_spaces.paths import BROKEN, SKIP, PathGraphs

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
LABELS = {
    "max_pool_3x3": "max pool 3x3",
    "avg_pool_3x3": "avg pool 3x3",
    "skip_connect": "skip",
    "sep_conv_3x3": "sep conv 3x3",
    "sep_conv_5x5": "sep conv 5x5",
    "dil_conv_3x3": "dil conv 3x3",
    "dil_conv_5x5": "dil conv 5x5",
}
NONE = "none"  # of an edge in a search; no genotype has it
NODES = (2, 3, 4, 5)
CELLS = ("normal", "reduce")
INPUTS = tuple(tuple(combinations(range(node), 2)) for node in NODES)  # of each node, the pairs to choose from
NETWORKS = {"search": (16, 8), "evaluation": (36, 20)}  # channels, layers
ON_A_PATH = np.array([0, 1, SKIP, 2, 3, 4, 5])  # what each operation is to `path_counts`
LONGEST_PATH = 2  # operations of the paths that predictors see
IMAGENET_PIXELS = 128  # from this size on, images get the ImageNet stem

CELL_DECISIONS = (
    *(Decision(f"inputs{node}", tuple(map(list, pairs))) for node, pairs in zip(NODES, INPUTS, strict=True)),
    *(Decision(f"operation{node}{side}", OPERATIONS) for node in NODES for side in "ab"),
)
Pair = tuple[str, int]  # an operation, and the node that it reads


class DARTS(EdgeSpace):
    """The cells of DARTS in the notation ``Genotype(normal=[...], normal_concat=..., reduce=[...], ...)``.

    Args:
        network: Size of the network: "evaluation" for the 36 channels and 20 layers that the paper trains on CIFAR-10
            after the search, or "search" for the 16 channels and 8 layers that it searches with. (Its ImageNet network
            has 48 and 14.)
        channels: Channels of the first cells, instead of those of `network`.
        layers: Number of cells, instead of that of `network`.
    """

    name = "darts"
    images_to_vectors = True
    decisions = tuple(decision for cell in CELLS for decision in inside(cell, CELL_DECISIONS))
    summary = "a normal and a reduction cell of 4 nodes with 2 of 7 operations each, repeated: 1e18 architectures"
    source = "Liu et al. 2019, arXiv 1806.09055"

    def __init__(self, *, network: str = "evaluation", channels: int | None = None, layers: int | None = None) -> None:
        usual_channels, usual_layers = NETWORKS[one_of("network", network, NETWORKS)]
        self.channels = usual_channels if channels is None else channels
        self.layers = usual_layers if layers is None else layers
        if self.channels < 2 or self.layers < 3:
            raise UserError(
                f"space 'darts' needs channels of 2 or more and layers of 3 or more, not {self.channels} and "
                f"{self.layers}."
            )

    # ---- equal cells

    def canonical(self, arch: Architecture) -> Architecture:
        """The smallest picks that number the nodes of each cell otherwise.

        Another numbering permutes the channels of the concatenation, and changes nothing else.
        """
        self.require_valid(arch)
        half = len(CELL_DECISIONS)
        return Architecture(self.name, _canonical(arch.picks[:half]) + _canonical(arch.picks[half:]))

    def count_distinct(self, on_progress: Callable[[int, int], None] | None = None) -> int:
        """Number of distinct pairs of cells: for each wiring that is its own representative, by Burnside's lemma."""
        wirings: list[tuple[int, ...]] = [()]
        for pairs in INPUTS:
            wirings = [(*wiring, pick) for wiring in wirings for pick in range(len(pairs))]
        cells = 0
        for seen, wiring in enumerate(wirings, start=1):
            smallest, orders = _smallest(wiring)
            if smallest == wiring:
                cells += distinct_labelings(orders, len(OPERATIONS))
            if on_progress is not None:
                on_progress(seen, len(wirings))
        return cells**2

    def graph_features(self, archs: Sequence[Architecture]) -> npt.NDArray[np.float64]:
        """Counts of the paths from either input to any node with up to `LONGEST_PATH` operations, by cell: (n, 172)."""
        return np.hstack([cells.path_counts() for cells in self.path_graphs(archs)])

    def path_graphs(self, archs: Sequence[Architecture]) -> tuple[PathGraphs, ...]:
        """The normal and the reduction cells."""
        picks = np.array([arch.picks for arch in archs], dtype=np.int64).reshape(len(archs), len(self.decisions))
        rows, nodes, graphs = np.arange(len(archs)), NODES[-1] + 1, []
        for cell in np.split(picks, len(CELLS), axis=1):
            edges = np.full((len(archs), nodes, nodes), BROKEN)
            for index, node in enumerate(NODES):
                sources = np.array(INPUTS[index])[cell[:, index]]
                for side in (0, 1):
                    operations = ON_A_PATH[cell[:, len(NODES) + 2 * index + side]]
                    edges[rows, sources[:, side], node] = operations
            graphs.append(PathGraphs(edges, (0, 1), tuple(NODES), len(OPERATIONS) - 1, LONGEST_PATH))
        return tuple(graphs)

    # ---- notation

    def format(self, arch: Architecture) -> str:
        """The genotype as the paper's repository prints it."""
        self.require_valid(arch)
        parts = [f"{cell}={pairs}, {cell}_concat=range(2, 6)" for cell, pairs in self.genotype(arch).items()]
        return f"Genotype({', '.join(parts)})"

    def genotype(self, arch: Architecture) -> dict[str, list[Pair]]:
        """For "normal" and "reduce" the eight pairs of operation and input, two for each node."""
        self.require_valid(arch)
        genotype = {}
        for index, cell in enumerate(CELLS):
            picks = arch.picks[index * len(CELL_DECISIONS) : (index + 1) * len(CELL_DECISIONS)]
            inputs = [source for pairs, pick in zip(INPUTS, picks, strict=False) for source in pairs[pick]]
            genotype[cell] = [
                (OPERATIONS[pick], source) for pick, source in zip(picks[len(NODES) :], inputs, strict=True)
            ]
        return genotype

    def parse(self, text: str) -> Architecture:
        """The architecture behind a genotype; the two pairs of a node may stand in either order."""
        pairs = _fields(text)
        fields, names = dict(pairs), [name for name, _ in pairs]
        expected = [name for cell in CELLS for name in (cell, f"{cell}_concat")]
        if sorted(names) != sorted(expected):
            raise UserError(f"a genotype of DARTS has {', '.join(expected)}, not {', '.join(names) or 'nothing'}.")
        picks: list[int] = []
        for cell in CELLS:
            concat = fields[f"{cell}_concat"]
            if not isinstance(concat, list | tuple) or list(concat) != list(NODES):
                raise UserError(f"{cell}_concat is {concat!r}; in the space 'darts' it is range(2, 6), all nodes.")
            picks += _read_cell(cell, fields[cell])
        return self.architecture(picks)

    # ---- networks

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """The network of the paper for this genotype."""
        genotype = self.genotype(arch)
        return DARTSNetwork(lambda cell, shape: Cell(genotype[cell], shape), self.channels, self.layers, task)

    def assemble(self, task: Task, edge: PlaceEdge) -> nn.Module:
        """The network of the paper's search: an edge from each earlier node to each node, pooling with batch norm."""

        def cell(name: str, shape: CellShape) -> nn.Module:
            return SearchCell(
                {pair: edge(_edge_name(name, *pair), make) for pair, make in _places(shape).items()}, shape
            )

        return DARTSNetwork(cell, self.channels, self.layers, task)

    def edges(self) -> tuple[MixedEdge, ...]:
        """The edges of the normal cell, then those of the reduction cell; each may hold any operation, or none."""
        return tuple(
            MixedEdge(_edge_name(cell, node, source), (NONE, *OPERATIONS))
            for cell in CELLS
            for node in NODES
            for source in range(node)
        )

    def operations_of(self, arch: Architecture) -> dict[str, int]:
        """For each edge the index of its operation, 0 where the genotype has none."""
        chosen = {edge.name: 0 for edge in self.edges()}
        for cell, pairs in self.genotype(arch).items():
            for index, (operation, source) in enumerate(pairs):
                chosen[_edge_name(cell, NODES[index // 2], source)] = 1 + OPERATIONS.index(operation)
        return chosen

    def derive(self, strengths: Strengths) -> Architecture:
        """The paper's rule: each node keeps the two edges with the strongest operations, "none" not counted."""
        picks: list[int] = []
        for cell in CELLS:
            inputs, operations = [], []
            for index, node in enumerate(NODES):
                rows = [strengths[_edge_name(cell, node, source)][1:] for source in range(node)]
                sources = sorted(sorted(range(node), key=lambda source: -float(rows[source].max()))[:2])
                inputs.append(INPUTS[index].index((sources[0], sources[1])))
                operations += [int(rows[source].argmax()) for source in sources]
            picks += [*inputs, *operations]
        return self.architecture(picks)

    def diagram(self, arch: Architecture, task: Task) -> tuple[Graph, ...]:
        """The two cells, and the chain of cells."""
        titles = {"normal": "normal cell", "reduce": "reduction cell"}
        cells = [_cell_graph(titles[cell], pairs) for cell, pairs in self.genotype(arch).items()]
        reductions = _reductions(self.layers)
        labels = [("stem", "")] * (2 if _is_large(task) else 1)
        labels += [("reduction cell" if index in reductions else "normal cell", "") for index in range(self.layers)]
        labels += [("average pool", "global"), ("flatten", ""), ("linear", "")]
        return (*cells, network_chain("network", self.build(arch, task), task, labels))


# ---- cells as picks: the inputs of each node, then the two operations of each


def _numbering(
    inputs: Sequence[tuple[int, int]], order: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The cell with its nodes in this order, as picks of the inputs and the old place of each operation.

    None if a node would read a later one.
    """
    place = {0: 0, 1: 1} | {old: new for new, old in zip(NODES, order, strict=True)}
    picks, operations = [], []
    for position, old in enumerate(order):
        sources = [(place[source], 2 * (old - 2) + side) for side, source in enumerate(inputs[old - 2])]
        sources.sort()
        pair = (sources[0][0], sources[1][0])
        if pair not in INPUTS[position]:
            return None
        picks.append(INPUTS[position].index(pair))
        operations += [slot for _, slot in sources]
    return tuple(picks), tuple(operations)


@lru_cache(maxsize=180)
def _smallest(wiring: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The smallest picks of the inputs under any numbering of the nodes, and the orders of operations that go with it.

    For a wiring that has the smallest picks already these orders are its symmetries.
    """
    inputs = [pairs[pick] for pairs, pick in zip(INPUTS, wiring, strict=True)]
    numberings = [numbering for order in permutations(NODES) if (numbering := _numbering(inputs, order)) is not None]
    smallest = min(picks for picks, _ in numberings)
    return smallest, tuple(operations for picks, operations in numberings if picks == smallest)


def _canonical(picks: tuple[int, ...]) -> tuple[int, ...]:
    smallest, orders = _smallest(picks[: len(NODES)])
    operations = picks[len(NODES) :]
    return smallest + min(tuple([operations[slot] for slot in order]) for order in orders)


def _fields(text: str) -> list[tuple[str, Any]]:
    """The arguments of ``Genotype(name=value, ...)``, where values are literals or ranges; nothing is evaluated."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Call) and not call.args and getattr(call.func, "id", "") == "Genotype":
            return [(str(argument.arg), _value(argument.value)) for argument in call.keywords]
    except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError):  # all that malformed text may give
        pass
    raise UserError(
        f"{text!r} is no genotype; write Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), "
        f"reduce=[...], reduce_concat=range(2, 6))."
    )


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "range" and not node.keywords:
        bounds = [ast.literal_eval(bound) for bound in node.args]
        if all(isinstance(bound, int) and abs(bound) < 100 for bound in bounds):
            return list(range(*bounds))
    return ast.literal_eval(node)


def _read_cell(cell: str, pairs: Any) -> list[int]:
    """The picks of one cell."""
    good = isinstance(pairs, list | tuple) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs)
    if not good or len(pairs) != 2 * len(NODES):
        raise UserError(f"{cell}={pairs!r} must be a list of {2 * len(NODES)} pairs (operation, input).")
    inputs, operations = [], []
    for index, node in enumerate(NODES):
        two = pairs[2 * index : 2 * index + 2]
        for operation, _ in two:
            if operation not in OPERATIONS:
                raise unknown("operation", str(operation), OPERATIONS, where=f"at node {node} of {cell}")
        sources = tuple(source for _, source in two)
        if any(type(source) is not int for source in sources) or tuple(sorted(sources)) not in INPUTS[index]:
            raise UserError(f"node {node} of {cell} reads {sources}; it needs two different nodes below {node}.")
        two = sorted(two, key=lambda pair: int(pair[1]))
        inputs.append(INPUTS[index].index((two[0][1], two[1][1])))
        operations += [OPERATIONS.index(operation) for operation, _ in two]
    return inputs + operations


def _cell_graph(title: str, pairs: Sequence[Pair]) -> Graph:
    names = ["input0", "input1", *(f"node{node}" for node in NODES)]
    nodes = [
        Node("input0", "cell k-2", "0", "input"),
        Node("input1", "cell k-1", "1", "input"),
        *(Node(f"node{node}", f"node {node}", "sum", "value") for node in NODES),
        Node("output", "output", "concatenation", "output"),
    ]
    edges = [
        Edge(names[source], f"node{NODES[index // 2]}", LABELS[operation])
        for index, (operation, source) in enumerate(pairs)
    ]
    edges += [Edge(f"node{node}", "output") for node in NODES]
    return Graph(title, tuple(nodes), tuple(edges))


# ---- modules


def _reductions(layers: int) -> tuple[int, int]:
    return layers // 3, 2 * layers // 3


def _is_large(task: Task) -> bool:
    return min(task.input_shape[1:]) >= IMAGENET_PIXELS


def _edge_name(cell: str, node: int, source: int) -> str:
    return f"{cell}.{node}<-{source}"


def _places(shape: CellShape) -> dict[tuple[int, int], Callable[[str], nn.Module]]:
    """For each node and each earlier one, what makes an operation between them in a search."""
    return {
        (node, source): partial(_mixed_operation, channels=shape.channels, stride=shape.stride(source))
        for node in NODES
        for source in range(node)
    }


class CellShape(NamedTuple):
    """The place of a cell in the network.

    Attributes:
        widths: Channels of the two inputs.
        channels: Channels of each node.
        reduction: Whether operations on the inputs have stride two.
        halved: Whether the first input is twice as large as the second.
    """

    widths: tuple[int, int]
    channels: int
    reduction: bool
    halved: bool

    def stride(self, source: int) -> int:
        """The stride of the operations on an input or a node."""
        return 2 if self.reduction and source < 2 else 1

    def preprocessing(self) -> tuple[nn.Module, nn.Module]:
        """The modules that give the inputs the channels of the nodes, and the same size."""
        first = FactorizedReduce if self.halved else _convolution
        return first(self.widths[0], self.channels), _convolution(self.widths[1], self.channels)


class DARTSNetwork(nn.Module):
    """Stem, cells, global average pooling, linear layer.

    Args:
        make_cell: Function that gives the "normal" or the "reduce" cell of a shape.
        channels: Channels of the first cells.
        layers: Number of cells.
        task: Task of the network.
    """

    def __init__(
        self, make_cell: Callable[[str, CellShape], nn.Module], channels: int, layers: int, task: Task
    ) -> None:
        super().__init__()
        colours = task.input_shape[0]
        large = _is_large(task)
        if large:
            self.stem0 = nn.Sequential(_halving(colours, channels // 2), nn.ReLU(), _halving(channels // 2, channels))
            self.stem1: nn.Module = nn.Sequential(nn.ReLU(), _halving(channels, channels))
            widths = (channels, channels)
        else:
            self.stem0 = nn.Sequential(
                nn.Conv2d(colours, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels)
            )
            widths = (3 * channels, 3 * channels)
        reductions = _reductions(layers)
        self.cells = [f"cell{index}" for index in range(layers)]
        halved = large  # whether the resolution halves between the two inputs of the next cell
        for index, name in enumerate(self.cells):
            reduction = index in reductions
            channels *= 1 + reduction
            shape = CellShape(widths, channels, reduction, halved)
            self.add_module(name, make_cell("reduce" if reduction else "normal", shape))
            widths = (widths[1], len(NODES) * channels)
            halved = reduction
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(widths[1], task.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) of images."""
        before = last = self.stem0(x)
        if hasattr(self, "stem1"):
            last = self.stem1(before)
        for name in self.cells:
            before, last = last, self.get_submodule(name)(before, last)
        out: torch.Tensor = self.linear(self.flatten(self.pool(last)))
        return out


class Cell(nn.Module):
    """A cell: two feature maps to one of four times `channels` channels, of half the size if it is a reduction.

    Args:
        pairs: Pairs of operation and input, two for each node.
        shape: Shape of the inputs and nodes of the cell.
    """

    def __init__(self, pairs: Sequence[Pair], shape: CellShape) -> None:
        super().__init__()
        self.sources = [source for _, source in pairs]
        self.preprocess0, self.preprocess1 = shape.preprocessing()
        self.operations = nn.ModuleList(
            _operation(operation, shape.channels, shape.stride(source)) for operation, source in pairs
        )

    def forward(self, before: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """The concatenation of the nodes, from the output of the cell before the last one, and of the last one."""
        nodes = [self.preprocess0(before), self.preprocess1(last)]
        for index in range(0, len(self.sources), 2):
            first, second = (self.operations[slot](nodes[self.sources[slot]]) for slot in (index, index + 1))
            nodes.append(first + second)
        return torch.cat(nodes[2:], dim=1)


class SearchCell(nn.Module):
    """A cell of a search, in which each node sums what comes from all earlier ones; shapes are those of `Cell`.

    Args:
        edges: Module between two nodes, by (node, earlier node).
        shape: Shape of the inputs and nodes of the cell.
    """

    def __init__(self, edges: Mapping[tuple[int, int], nn.Module], shape: CellShape) -> None:
        super().__init__()
        self.preprocess0, self.preprocess1 = shape.preprocessing()
        self.edges = nn.ModuleDict({f"{node}_{source}": edge for (node, source), edge in edges.items()})

    def forward(self, before: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """The concatenation of the nodes, from the output of the cell before the last one, and of the last one."""
        nodes = [self.preprocess0(before), self.preprocess1(last)]
        for node in NODES:
            terms = [self.edges[f"{node}_{source}"](nodes[source]) for source in range(node)]
            nodes.append(torch.stack(terms).sum(0))
        return torch.cat(nodes[2:], dim=1)


class FactorizedReduce(nn.Module):
    """Half the size by two 1x1 convolutions, on the even and on the odd pixels: -> (n, outputs, ceil(h/2), ceil(w/2)).

    An image of odd size gets a row or column of zeros, which the paper's sizes do not need.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The two halves of the channels, normalized."""
        x = self.relu(x)
        shifted = nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        out: torch.Tensor = self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))
        return out


def _halving(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs))


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    # Not in place: the input of a cell is also the input of the next one.
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def _separable(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]


def _mixed_operation(name: str, channels: int, stride: int) -> nn.Module:
    """An operation of a mixed edge: as of the paper's search, pooling is normalized, so that it weighs no more."""
    if name == NONE:
        return Zero(stride)
    operation = _operation(name, channels, stride)
    return nn.Sequential(operation, nn.BatchNorm2d(channels)) if "pool" in name else operation


def _operation(name: str, channels: int, stride: int) -> nn.Module:
    """An operation of the paper: (n, channels, h, w) -> (n, channels, ceil(h/stride), ceil(w/stride))."""
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    kernel = int(name[-1])
    if name.startswith("dil"):
        return nn.Sequential(*_separable(channels, kernel, stride, dilation=2))
    return nn.Sequential(*_separable(channels, kernel, stride), *_separable(channels, kernel, 1))
