"""Counts of the paths through a cell: what predictors read beside the decisions.

The path encoding of BANANAS (White, Neiswanger & Savani 2021, arXiv 1910.11858) has one column for every sequence of
operations that may lead from the input of a cell to its output. This cell has one path "skip" and one "a, b":

    0 --a--> 1 --b--> 2          sequences   ()  (a)  (b)  (a,a)  (a,b)  (b,a)  (b,b)
    |------skip-------|          counts       1   0    0     0      1      0      0

Deviations from the paper: paths are counted, where it asks whether there is one; a skip connection is left out of the
sequence, so that it makes no difference where it stands; and the spaces, not the frequency of the paths, say which
length is the longest that is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt

SKIP = -1  # on an edge: the value passes as it is
BROKEN = -2  # on an edge: nothing passes


@dataclass(frozen=True)
class PathGraphs:
    """Some cells as graphs; see `path_counts` for the fields."""

    edges: npt.NDArray[np.int64]
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    operations: int
    longest: int

    def path_counts(self) -> npt.NDArray[np.float64]:
        """(n, d) see `path_counts`."""
        return path_counts(
            self.edges, sources=self.sources, targets=self.targets, operations=self.operations, longest=self.longest
        )


def path_counts(
    edges: npt.NDArray[np.int64], *, sources: Sequence[int], targets: Sequence[int], operations: int, longest: int
) -> npt.NDArray[np.float64]:
    """How often each sequence of operations leads from a source to any of the targets.

    Args:
        edges: (n, nodes, nodes) edges; at [i, a, b] the operation that cell i has on the edge from node a to a later
            node b, counted from 0, `SKIP` or `BROKEN`.
        sources: Nodes that paths begin at; each has columns of its own.
        targets: Nodes that paths may end at.
        operations: Number of operations.
        longest: Largest number of operations of a sequence that is counted; longer paths are left out.

    Returns:
        An (n, d) array, where d is the number of sources times 1 + operations + ... + operations ** longest.
    """
    starts = np.cumsum([0, *(operations**length for length in range(longest + 1))])
    columns = int(starts[-1])
    counts = np.zeros((len(edges), len(sources) * columns))
    for place, source in enumerate(sources):
        for target in targets:
            between = range(max(source, *sources) + 1, target)
            for inner in (nodes for size in range(len(between) + 1) for nodes in combinations(between, size)):
                steps = np.stack([edges[:, a, b] for a, b in pairwise((source, *inner, target))], axis=1)
                code, length = np.zeros(len(edges), dtype=np.int64), (steps >= 0).sum(axis=1)
                for step in steps.T:
                    code = np.where(step >= 0, code * operations + step, code)
                rows = np.flatnonzero((steps != BROKEN).all(axis=1) & (length <= longest))
                counts[rows, place * columns + starts[length[rows]] + code[rows]] += 1
    return counts
