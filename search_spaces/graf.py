"""Graph features of cells (Kadlecova et al. 2024, GRAF: Surprisingly Strong Performance Prediction, arXiv 2404.16551).

For every set of operations: how many edges have one of them, the shortest path from the inputs to the outputs over such
edges only, the most of them that lie on a path, and how many leave the inputs and reach the outputs. Deviations: no set
holds the zero operation, and the mean degrees of nodes are left out: they are the number of edges over that of nodes.

    0 --conv--> 1 --skip--> 2          set {conv}:        1 edge, no path, 1 on a path, 1 leaves 0, 0 reach 2
    |------------skip-------|          set {skip}:        2 edges, shortest 1, 1 on a path, 1 leaves 0, 2 reach 2
                                       set {conv, skip}:  3 edges, shortest 1, 2 on a path, 2 leave 0, 2 reach 2
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from search_spaces.paths import BROKEN, SKIP, PathGraphs

Edges = npt.NDArray[np.int64]

UNREACHED = -(10**6)


def graf_features(cells: PathGraphs) -> npt.NDArray[np.float64]:
    """The features of cells.

    Returns:
        (n, 5 * (2 ** (operations + 1) - 1)); the sets are in the order of their size, the skip connection first. A
        shortest path that does not exist is as long as there are nodes.
    """
    edges, sources, targets = cells.edges, cells.sources, cells.targets
    count, nodes, _ = edges.shape
    later = np.triu(np.ones((nodes, nodes), dtype=bool), k=1)
    open_edges = (edges != BROKEN) & later
    kinds = (SKIP, *range(cells.operations))
    columns = []
    for size in range(1, len(kinds) + 1):
        for chosen in combinations(kinds, size):
            marked = np.isin(edges, chosen) & open_edges
            columns += [
                marked.sum(axis=(1, 2)),
                _shortest(marked, sources, targets),
                _most(open_edges, marked, sources, targets),
                marked[:, sources].sum(axis=(1, 2)),
                marked[:, :, targets].sum(axis=(1, 2)),
            ]
    return np.stack(columns, axis=1).astype(np.float64).reshape(count, -1)


def _shortest(marked: npt.NDArray[np.bool_], sources: Sequence[int], targets: Sequence[int]) -> Edges:
    """(n,) edges of the shortest path over marked ones; the number of nodes where there is none."""
    count, nodes, _ = marked.shape
    length = np.full((count, nodes), nodes, dtype=np.int64)
    length[:, list(sources)] = 0
    for node in range(nodes):
        for before in range(node):
            through = np.where(marked[:, before, node], length[:, before] + 1, nodes)
            length[:, node] = np.minimum(length[:, node], through)
    shortest: Edges = length[:, list(targets)].min(axis=1)
    return shortest


def _most(
    open_edges: npt.NDArray[np.bool_], marked: npt.NDArray[np.bool_], sources: Sequence[int], targets: Sequence[int]
) -> Edges:
    """(n,) the most marked edges on a path over open ones; zero where there is no path."""
    count, nodes, _ = marked.shape
    most = np.full((count, nodes), UNREACHED, dtype=np.int64)
    most[:, list(sources)] = 0
    for node in range(nodes):
        for before in range(node):
            through = np.where(open_edges[:, before, node], most[:, before] + marked[:, before, node], UNREACHED)
            most[:, node] = np.maximum(most[:, node], through)
    longest: Edges = np.maximum(most[:, list(targets)].max(axis=1), 0)
    return longest
