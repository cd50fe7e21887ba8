"""Small labelled graphs as bit masks: the cells of NAS-Bench-101, pruned, numbered canonically and counted.

A graph of v vertices is acyclic, with edges from lower to higher numbers only; vertex 0 is the input of a cell and the
last one its output.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


def edge_bit(source: int, target: int) -> int:
    """Position of an edge in the bit mask of a graph: column by column of its matrix, as in the paper's code."""
    return target * (target - 1) // 2 + source


class CellGraph(NamedTuple):
    """A cell without superfluous vertices.

    Attributes:
        size: Number of vertices, input and output included.
        mask: Edges of the cell, see `edge_bit`.
        labels: Index of the operation of each inner vertex.
    """

    size: int
    mask: int
    labels: tuple[int, ...]

    @property
    def edges(self) -> list[tuple[int, int]]:
        """(source, target) of every edge."""
        return [(a, b) for b in range(self.size) for a in range(b) if self.mask >> edge_bit(a, b) & 1]


class CellGraphs(NamedTuple):
    """The graphs of so many vertices, by their bit mask.

    Attributes:
        valid: 1 for every mask whose graph without its superfluous vertices is a cell, 0 otherwise.
        masks: Masks that are valid.
        connected: Masks that are valid and have no superfluous vertex.
    """

    valid: bytes
    masks: npt.NDArray[np.int64]
    connected: npt.NDArray[np.int64]


@lru_cache(maxsize=8)
def cell_graphs(vertices: int, max_edges: int) -> CellGraphs:
    """Looks at all graphs at once: 2 million of seven vertices, in a fraction of a second."""
    masks = np.arange(1 << edge_bit(0, vertices), dtype=np.uint32)
    columns = [((masks >> edge_bit(0, v)) & ((1 << v) - 1)).astype(np.uint8) for v in range(vertices)]
    reached = np.ones(len(masks), dtype=np.uint8)
    for v in range(1, vertices):
        reached |= ((columns[v] & reached) > 0).astype(np.uint8) << np.uint8(v)
    needed = np.full(len(masks), 1 << (vertices - 1), dtype=np.uint8)
    for v in range(vertices - 1, 0, -1):
        needed |= columns[v] * ((needed >> np.uint8(v)) & np.uint8(1))
    on_path = reached & needed
    edges = np.zeros(len(masks), dtype=np.uint8)
    for v in range(1, vertices):
        edges += np.bitwise_count(columns[v] & on_path) * ((on_path >> np.uint8(v)) & np.uint8(1))
    valid = (on_path >> np.uint8(vertices - 1) > 0) & (edges <= max_edges)
    connected = valid & (on_path == (1 << vertices) - 1)
    return CellGraphs(valid.tobytes(), np.flatnonzero(valid), np.flatnonzero(connected))


def prune_cell(vertices: int, mask: int, labels: Sequence[int]) -> CellGraph:
    """The cell without the vertices that lie on no path from the first to the last one."""
    columns = [mask >> edge_bit(0, v) & (1 << v) - 1 for v in range(vertices)]
    reached, needed = 1, 1 << (vertices - 1)
    for v in range(1, vertices):
        if columns[v] & reached:
            reached |= 1 << v
    for v in range(vertices - 1, 0, -1):
        if needed >> v & 1:
            needed |= columns[v]
    on_path = [v for v in range(vertices) if reached & needed & 1 << v]
    if len(on_path) == vertices:
        return CellGraph(vertices, mask, tuple(labels))
    pruned = sum(
        1 << edge_bit(i, j) for j, b in enumerate(on_path) for i, a in enumerate(on_path[:j]) if columns[b] >> a & 1
    )
    return CellGraph(len(on_path), pruned, tuple(labels[v - 1] for v in on_path[1:-1]))


@lru_cache(maxsize=1 << 15)
def smallest_numbering(size: int, mask: int) -> tuple[int, tuple[tuple[int, ...], ...]]:
    """The smallest mask of the graph under any numbering of its inner vertices, and the orders that give it.

    An order lists the inner vertices from the first new place to the last, counted from 0. The orders of a graph that
    has the smallest mask already are its symmetries.
    """
    edges = CellGraph(size, mask, ()).edges
    orders_by_mask: dict[int, list[tuple[int, ...]]] = {}
    for order in permutations(range(size - 2)):
        place = [0, *(order.index(vertex) + 1 for vertex in range(size - 2)), size - 1]
        if all(place[a] < place[b] for a, b in edges):
            moved = sum(1 << edge_bit(place[a], place[b]) for a, b in edges)
            orders_by_mask.setdefault(moved, []).append(order)
    smallest = min(orders_by_mask)
    return smallest, tuple(orders_by_mask[smallest])


def canonical_cell(cell: CellGraph) -> CellGraph:
    """The cell with the smallest mask, then the smallest labels, under any numbering of its inner vertices."""
    smallest, orders = smallest_numbering(cell.size, cell.mask)
    labels = cell.labels
    return CellGraph(cell.size, smallest, min(tuple([labels[vertex] for vertex in order]) for order in orders))


def distinct_labelings(symmetries: Sequence[Sequence[int]], options: int) -> int:
    """Ways to give each of some places one of `options` labels that no symmetry turns into each other.

    Args:
        symmetries: Group of permutations of the places, each as the list of the places that they move to.
        options: Number of labels.

    By Burnside's lemma that is the mean, over the symmetries, of the labelings that they leave as they are: those with
    one label for each cycle.
    """
    fixed: list[int] = [options ** _cycles(symmetry) for symmetry in symmetries]
    return sum(fixed) // len(symmetries)


def _cycles(permutation: Sequence[int]) -> int:
    visited: set[int] = set()
    count = 0
    for start in range(len(permutation)):
        count += start not in visited
        while start not in visited:
            visited.add(start)
            start = permutation[start]
    return count
