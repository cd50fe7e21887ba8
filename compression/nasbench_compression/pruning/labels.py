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
        of: (labels,), the number of the component that each label is in.
        frozen: why a component cannot go, by its number.
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

    def join(self, one: Array, other: Array) -> None:
        """Let the labels at the same positions of two arrays of one length go together."""
        assert len(one) == len(other), f"{len(one)} labels are joined with {len(other)}"
        if one is not other:
            self._pairs.append((one, other))

    def freeze(self, labels: Array, reason: str) -> None:
        """Let these, and what they are joined with, stay; of several reasons the first one counts."""
        if len(labels):
            self._frozen.append((labels, reason))

    def components(self) -> Components:
        """What goes together, by all that was said so far."""
        one, other = (np.concatenate([np.empty(0, np.int64), *(pair[side] for pair in self._pairs)]) for side in (0, 1))
        links = coo_array((np.ones(len(one), bool), (one, other)), shape=(self._count, self._count))
        of = connected_components(links, directed=False)[1].astype(np.int64) if self._count else one
        frozen: dict[int, str] = {}
        for labels, reason in self._frozen:
            for component in np.unique(of[labels]).tolist():
                frozen.setdefault(component, reason)
        return Components(of, frozen)
