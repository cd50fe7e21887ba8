"""NAS-Bench-101: one cell, any graph of up to seven vertices and nine edges, repeated (Ying et al. 2019).

The paper is arXiv 1902.09635. Vertex 0 is the input of the cell and the last one its output; every other vertex has an
operation and may take any earlier vertex as input:

    conv1x1-bn-relu(0)|conv3x3-bn-relu(0,1)|output(0,2)

            input --- conv1x1 --- conv3x3 --- output        vertex 1 reads 0; vertex 2 reads 0 and 1;
              |---------------------|           |           the output joins 2, and 0 through a projection
              |---------------------------------|

The network is a 3x3 stem and three stacks of three cells, with 2x2 max pooling and twice the channels from stack to
stack, then global average pooling and a linear layer. A cell with `c` output channels:

- What the output reads is concatenated: its vertices share `c` equally, and the first ones take what is left over. Any
  other vertex has as many channels as the widest vertex that reads it.
- The inputs of a vertex are added; where one has a channel too many, the last one is dropped.
- The input of the cell passes a 1x1 projection (convolution, batch norm, ReLU) on its way to every vertex; to the
  output, too, where it is added to the concatenation.

Deviation: initial weights and the momentum of the batch norm are PyTorch's defaults, not those of the paper's code.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import compress

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nasbench_registry import UserError, unknown
from search_spaces.cell_graphs import (
    CellGraph,
    CellGraphs,
    canonical_cell,
    cell_graphs,
    distinct_labelings,
    edge_bit,
    prune_cell,
    smallest_numbering,
)
from search_spaces.core import MAX_TRIES, Architecture, Decision, NoValidArchitecture, SearchSpace, Task
from search_spaces.diagram import Edge, Graph, Node, network_chain
from search_spaces.paths import BROKEN, SKIP, PathGraphs

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
LABELS = {"conv3x3-bn-relu": "conv 3x3", "conv1x1-bn-relu": "conv 1x1", "maxpool3x3": "max pool 3x3"}
MOST_VERTICES = 7
LONGEST_PATH = 3  # operations of the paths that predictors see


class NASBench101(SearchSpace):
    """The cells of NAS-Bench-101, written ``operation(inputs)|...|output(inputs)``; 423,624 of them are distinct.

    Args:
        channels: Channels of the stem and of the first stack; the paper uses 128.
        stacks: Number of groups of cells of one resolution; the paper uses 3.
        modules: Number of cells in each stack; the paper uses 3.
        vertices: Largest number of vertices of a cell, input and output included, from 2 to 7; the paper uses 7.
        max_edges: Largest number of edges of a cell; the paper uses 9.
    """

    name = "nasbench101"
    images_to_vectors = True
    summary = "one cell, a graph of up to 7 vertices and 9 edges, repeated: 423,624 distinct architectures"
    source = "Ying et al. 2019, arXiv 1902.09635"

    def __init__(
        self,
        *,
        channels: int = 128,
        stacks: int = 3,
        modules: int = 3,
        vertices: int = MOST_VERTICES,
        max_edges: int = 9,
    ) -> None:
        if not 2 <= vertices <= MOST_VERTICES or max_edges < 1:
            raise UserError(
                f"space 'nasbench101' needs vertices from 2 to {MOST_VERTICES} and max_edges of 1 or more, "
                f"not {vertices} and {max_edges}."
            )
        if stacks < 1 or modules < 1 or channels < max(1, vertices - 2):
            raise UserError(
                f"space 'nasbench101' needs stacks and modules of 1 or more, and channels for each of "
                f"{vertices - 2} vertices, not {stacks}, {modules} and {channels}."
            )
        self.channels, self.stacks, self.modules = channels, stacks, modules
        self.vertices, self.max_edges = vertices, max_edges
        pairs = [(a, b) for b in range(vertices) for a in range(b)]  # in the order of edge_bit
        self.decisions = (
            *(Decision(f"{a}->{b}", (0, 1)) for a, b in pairs),
            *(Decision(f"operation{vertex}", OPERATIONS) for vertex in range(1, vertices - 1)),
        )
        self._edges = len(pairs)
        self._weights = [1 << bit for bit in range(self._edges)]
        self._labelings = len(OPERATIONS) ** (vertices - 2)

    # ---- the valid cells

    @cached_property
    def _graphs(self) -> CellGraphs:
        return cell_graphs(self.vertices, self.max_edges)

    def is_valid(self, arch: Architecture) -> bool:
        """Whether input and output are connected, by at most `max_edges` edges without the superfluous ones."""
        picks = arch.picks
        if arch.space != self.name or len(picks) != len(self.decisions) or min(picks) < 0:
            return False
        edges, labels = picks[: self._edges], picks[self._edges :]
        if max(edges) > 1 or max(labels, default=0) >= len(OPERATIONS):
            return False
        return bool(self._graphs.valid[self._mask(edges)])

    def _mask(self, edges: Sequence[int]) -> int:
        return sum(compress(self._weights, edges))

    def _picks(self, mask: int, labels: Sequence[int]) -> Architecture:
        return Architecture(self.name, (*[mask >> bit & 1 for bit in range(self._edges)], *labels))

    def sample(self, rng: np.random.Generator, max_tries: int = MAX_TRIES) -> Architecture:
        """A valid architecture, uniform over the picks: one number is drawn, and no draw is in vain."""
        masks = self._graphs.masks
        graph, labeling = divmod(int(rng.integers(len(masks) * self._labelings)), self._labelings)
        labels = []
        for _ in range(self.vertices - 2):
            labeling, label = divmod(labeling, len(OPERATIONS))
            labels.append(label)
        return self._picks(int(masks[graph]), labels)

    def mutate(self, arch: Architecture, rng: np.random.Generator, max_tries: int = MAX_TRIES) -> Architecture:
        """A valid architecture in which exactly one edge or operation, uniform over them, is another one."""
        edges, labels = arch.picks[: self._edges], list(arch.picks[self._edges :])
        mask, valid, count = self._mask(edges), self._graphs.valid, len(arch.picks)
        for _ in range(max_tries):
            position = int(rng.integers(count))
            if position >= self._edges:
                pick = int(rng.integers(len(OPERATIONS) - 1))
                pick += pick >= arch.picks[position]
                return Architecture(self.name, (*arch.picks[:position], pick, *arch.picks[position + 1 :]))
            if valid[mask ^ 1 << position]:
                return self._picks(mask ^ 1 << position, labels)
        raise NoValidArchitecture(f"no valid mutation of {arch.picks} in space {self.name!r} within {max_tries} tries.")

    # ---- equal cells

    def cell(self, arch: Architecture) -> CellGraph:
        """The cell without the vertices that lie on no path from input to output."""
        self.require_valid(arch)
        return prune_cell(self.vertices, self._mask(arch.picks[: self._edges]), arch.picks[self._edges :])

    def canonical(self, arch: Architecture) -> Architecture:
        """The representative of all cells that are isomorphic after superfluous vertices are removed.

        It is the one that the paper's enumeration meets first, and so the one in its table: the smallest bit mask of
        edges, then the smallest operations. Vertices that are not needed stand behind the others.
        """
        return self._placed(canonical_cell(self.cell(arch)))

    def _placed(self, cell: CellGraph) -> Architecture:
        """The cell in a graph of `vertices` vertices: superfluous ones before the output, without edges."""
        start = edge_bit(0, cell.size - 1)  # of the edges to the output
        inner, last = cell.mask & (1 << start) - 1, cell.mask >> start
        unused = self.vertices - cell.size
        return self._picks(inner | last << edge_bit(0, self.vertices - 1), (*cell.labels, *[0] * unused))

    def module_hash(self, arch: Architecture) -> str:
        """The paper's hash of the cell, 32 hexadecimal digits, by which its published table is indexed.

        A vertex starts with a digest of its number of outputs, its number of inputs and its operation (-1 for the
        input, -2 for the output). As often as there are vertices, it is replaced by the digest of the sorted digests of
        its inputs, those of its outputs and its own. The hash is the digest of all in order, so isomorphic cells agree.
        """
        cell = self.cell(arch)
        inputs: list[list[int]] = [[] for _ in range(cell.size)]
        outputs: list[list[int]] = [[] for _ in range(cell.size)]
        for source, target in cell.edges:
            inputs[target].append(source)
            outputs[source].append(target)
        labels = (-1, *cell.labels, -2)
        names = range(cell.size)
        digests = [_md5(str((len(outputs[v]), len(inputs[v]), labels[v]))) for v in names]
        for _ in range(cell.size):
            sides = [["".join(sorted(digests[w] for w in near)) for near in (inputs[v], outputs[v])] for v in names]
            digests = [_md5("|".join((*sides[v], digests[v]))) for v in names]
        return _md5(str(sorted(digests)))

    def count_distinct(self, on_progress: Callable[[int, int], None] | None = None) -> int:
        """Number of distinct cells: for each graph that is its own representative, the labelings up to symmetry."""
        graphs = [
            (size, int(mask))
            for size in range(2, self.vertices + 1)
            for mask in cell_graphs(size, self.max_edges).connected
        ]
        total = 0
        for seen, (size, mask) in enumerate(graphs, start=1):
            smallest, orders = smallest_numbering(size, mask)
            if smallest == mask:
                total += distinct_labelings(orders, len(OPERATIONS))
            if on_progress is not None and (seen % 64 == 0 or seen == len(graphs)):
                on_progress(seen, len(graphs))
        return total

    def graph_features(self, archs: Sequence[Architecture]) -> npt.NDArray[np.float64]:
        """Counts of the paths from input to output with up to `LONGEST_PATH` operations: (n, 40)."""
        return self.path_graphs(archs)[0].path_counts()

    def path_graphs(self, archs: Sequence[Architecture]) -> tuple[PathGraphs, ...]:
        """The cells; on an edge is the operation of the vertex that it leads to."""
        picks = np.array([arch.picks for arch in archs], dtype=np.int64).reshape(len(archs), len(self.decisions))
        last = self.vertices - 1
        # What a path does at the vertex that an edge leads to; the output has no operation.
        operations = np.hstack([picks[:, self._edges :], np.full((len(archs), 1), SKIP)])
        edges = np.full((len(archs), self.vertices, self.vertices), BROKEN)
        for b in range(1, self.vertices):
            for a in range(b):
                edges[:, a, b] = np.where(picks[:, edge_bit(a, b)] == 1, operations[:, b - 1], BROKEN)
        return (PathGraphs(edges, (0,), (last,), operations=len(OPERATIONS), longest=LONGEST_PATH),)

    # ---- notation

    def format(self, arch: Architecture) -> str:
        """Each vertex after the input as ``operation(its inputs)``, joined by ``|``; the last one is the output.

        Vertices without edges that stand behind the others are left out, if they have the first operation.
        """
        self.require_valid(arch)
        names = [OPERATIONS[label] for label in arch.picks[self._edges :]]
        inputs = [[a for a in range(b) if arch.picks[edge_bit(a, b)]] for b in range(self.vertices)]
        used = {source for sources in inputs for source in sources}
        while names and names[-1] == OPERATIONS[0] and not inputs[len(names)] and len(names) not in used:
            names.pop()
        rows = [(name, inputs[vertex]) for vertex, name in enumerate(names, start=1)]
        rows.append(("output", inputs[-1]))
        return "|".join(f"{name}({','.join(map(str, sources))})" for name, sources in rows)

    def parse(self, text: str) -> Architecture:
        """The architecture behind the notation of `format`."""
        operations, edges = [], []
        tokens = text.strip().split("|")
        for vertex, token in enumerate(tokens, start=1):
            match = re.fullmatch(r"\s*([\w-]+)\(\s*((?:\d+\s*(?:,\s*\d+\s*)*)?)\)\s*", token)
            if match is None:
                raise UserError(
                    f"{token!r} in {text!r} is no vertex of a NAS-Bench-101 cell; write "
                    f"operation(inputs)|...|output(inputs), such as conv3x3-bn-relu(0)|output(0,1)."
                )
            sources = [int(source) for source in match[2].split(",") if source.strip()]
            if len(set(sources)) < len(sources) or any(source >= vertex for source in sources):
                raise UserError(f"{token!r} in {text!r} must name vertices before {vertex}, each once.")
            operations.append(match[1])
            edges += [(source, vertex) for source in sources]
        if operations[-1] != "output":
            raise UserError(f"{text!r} must end with the vertex output(inputs).")
        return self._read(edges, operations[:-1], text)

    def from_matrix(self, matrix: Sequence[Sequence[int]], operations: Sequence[str]) -> Architecture:
        """The architecture of an adjacency matrix and the names of its operations, as the paper's code writes cells.

        Args:
            matrix: Square matrix; 1 at [a][b] where vertex b reads vertex a, and nothing on and below the diagonal.
            operations: Operations of all vertices; the first is the input's and the last the output's, and neither is
                read.

        Raises:
            UserError: That is no cell of this space.
        """
        rows = [[int(value) for value in row] for row in matrix]
        size = len(rows)
        if size < 2 or any(len(row) != size for row in rows) or len(operations) != size:
            raise UserError(f"a cell needs a square matrix and an operation for each of its rows, not {rows}.")
        edges = [(a, b) for b in range(size) for a in range(size) if rows[a][b]]
        if any(a >= b for a, b in edges):
            raise UserError(f"vertices may only read earlier ones: {rows} has entries on or below its diagonal.")
        return self._read(edges, operations[1:-1], str(rows))

    def _read(self, edges: Sequence[tuple[int, int]], operations: Sequence[str], text: str) -> Architecture:
        size = len(operations) + 2
        if size > self.vertices:
            raise UserError(f"{text!r} has {size} vertices with the input; this space has at most {self.vertices}.")
        for operation in operations:
            if operation not in OPERATIONS:
                raise unknown("operation", operation, OPERATIONS, where=f"in {text!r}")
        labels = tuple(OPERATIONS.index(operation) for operation in operations)
        arch = self._placed(CellGraph(size, sum(1 << edge_bit(a, b) for a, b in edges), labels))
        if not self.is_valid(arch):
            raise UserError(
                f"{text!r} is no cell of this space: its output must be reached from its input, over at most "
                f"{self.max_edges} edges."
            )
        return arch

    # ---- networks

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """The network of the paper for the canonical cell, so that equal cells build equal networks.

        (Which vertex gets a channel that is left over depends on their order.)
        """
        cell = canonical_cell(self.cell(arch))
        width = self.channels
        layers: list[nn.Module] = [_convolution(task.input_shape[0], width, 3)]
        for stack in range(self.stacks):
            inputs = width
            if stack > 0:
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
                width *= 2
            for module in range(self.modules):
                layers.append(CellModule(cell, inputs if module == 0 else width, width))
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, task.classes))

    def diagram(self, arch: Architecture, task: Task) -> tuple[Graph, ...]:
        """The canonical cell, and the chain of cells."""
        cell = canonical_cell(self.cell(arch))
        last = cell.size - 1
        names = ["input", *(f"vertex{vertex}" for vertex in range(1, last)), "output"]
        nodes = [
            Node("input", "input", kind="input"),
            *(Node(names[v], LABELS[OPERATIONS[cell.labels[v - 1]]], f"vertex {v}") for v in range(1, last)),
            Node("output", "output", "concatenation" if cell.mask >> edge_bit(0, last) > 1 else "", "output"),
        ]
        edges = [
            Edge(names[source], names[target], "projection" if source == 0 else "") for source, target in cell.edges
        ]
        macro = [("stem", "conv 3x3")]
        for stack in range(self.stacks):
            macro += [("max pool", "2x2")] * (stack > 0)
            macro += [("cell", f"stack {stack + 1}")] * self.modules
        macro += [("average pool", "global"), ("flatten", ""), ("linear", "")]
        return (
            Graph("cell", tuple(nodes), tuple(edges)),
            network_chain("network", self.build(arch, task), task, macro),
        )


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


# ---- modules


def vertex_channels(cell: CellGraph, outputs: int) -> list[int]:
    """Channels of every vertex but the input, whose place holds 0, for a cell that gives `outputs` channels."""
    last = cell.size - 1
    edges = cell.edges
    joined = [source for source, target in edges if target == last and source > 0]
    channels = [0] * last + [outputs]
    for rank, vertex in enumerate(joined):
        channels[vertex] = outputs // len(joined) + (rank < outputs % len(joined))
    for vertex in range(last - 1, 0, -1):
        if vertex not in joined:
            channels[vertex] = max(channels[target] for source, target in edges if source == vertex)
    return channels


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def _operation(name: str, width: int) -> nn.Module:
    if name == "maxpool3x3":
        return nn.MaxPool2d(3, stride=1, padding=1)
    return _convolution(width, width, 1 if name == "conv1x1-bn-relu" else 3)


class CellModule(nn.Module):
    """The network of a cell: (n, inputs, h, w) -> (n, outputs, h, w)."""

    def __init__(self, cell: CellGraph, inputs: int, outputs: int) -> None:
        super().__init__()
        self.last = cell.size - 1
        self.widths = vertex_channels(cell, outputs)
        self.sources = [[a for a, b in cell.edges if b == vertex] for vertex in range(cell.size)]
        self.projections = nn.ModuleDict(
            {
                str(vertex): _convolution(inputs, self.widths[vertex], 1)
                for vertex in range(1, cell.size)
                if 0 in self.sources[vertex]
            }
        )
        self.operations = nn.ModuleList(
            _operation(OPERATIONS[label], width) for label, width in zip(cell.labels, self.widths[1:-1], strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The value of the output vertex."""
        values = [x]
        for vertex, operation in enumerate(self.operations, start=1):
            width = self.widths[vertex]
            terms = [
                values[source] if self.widths[source] == width else values[source][:, :width]
                for source in self.sources[vertex]
                if source > 0
            ]
            values.append(operation(self._total(x, vertex, terms)))
        joined = [values[source] for source in self.sources[self.last] if source > 0]
        return self._total(x, self.last, [torch.cat(joined, dim=1)] if len(joined) > 1 else joined)

    def _total(self, x: torch.Tensor, vertex: int, terms: list[torch.Tensor]) -> torch.Tensor:
        """The sum of these terms and of the projected input, if the vertex reads it."""
        if 0 in self.sources[vertex]:
            terms = [*terms, self.projections[str(vertex)](x)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total
