"""Channels as labels: equal ones go together, and some cannot go at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Array = NDArray[np.int64]
"""One label for each position along a dimension."""

Axes = dict[int, Array]
"""The labels of a tensor by dimension. Along any other dimension, its size does not follow from channels."""


@dataclass(frozen=True)
class Components:
    """Which labels go together.

    Attributes:
        of: Number of the component that each label is in, (labels,).
        frozen: Reason why a component cannot be removed, by its number.
    """

    of: Array
    frozen: dict[int, str]


class Labels:
    """Names for channels: joined while a network is followed, and put together in the end.

    The work and the memory are linear in the number of labels and of joins, whatever the network looks like.
    """

    def __init__(self) -> None:
        self._count = 0
        self._pairs: list[tuple[Array, Array]] = []
        self._frozen: list[tuple[Array, str]] = []

    def fresh(self, size: int) -> Array:
        """New labels, (size,)."""
        self._count += size
        return np.arange(self._count - size, self._count)

    def join(self, first: Array, second: Array) -> None:
        """Let the labels at the same positions of two arrays of one length go together."""
        assert len(first) == len(second), f"{len(first)} labels are joined with {len(second)}"
        if first is not second:
            self._pairs.append((first, second))

    def freeze(self, labels: Array, reason: str) -> None:
        """Let these, and what they are joined with, stay; of several reasons the first one counts."""
        if len(labels):
            self._frozen.append((labels, reason))

    def components(self) -> Components:
        """What goes together, by all that was said so far."""
        first, second = (
            np.concatenate([np.empty(0, np.int64), *(pair[side] for pair in self._pairs)]) for side in (0, 1)
        )
        links = coo_array((np.ones(len(first), bool), (first, second)), shape=(self._count, self._count))
        component_of = connected_components(links, directed=False)[1].astype(np.int64) if self._count else first
        frozen: dict[int, str] = {}
        for labels, reason in self._frozen:
            for component in np.unique(component_of[labels]).tolist():
                frozen.setdefault(component, reason)
        return Components(component_of, frozen)
