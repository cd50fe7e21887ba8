"""Some points of a space as a space: those that a table holds, for example."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import numpy as np

from nasbench_registry import UserError
from search_spaces.core import MAX_TRIES, Architecture, DecisionSpace, NoValidArchitecture

Space = TypeVar("Space", bound=DecisionSpace)


class _Only(DecisionSpace):
    """The methods that `only` adds to the class of a space."""

    allowed: dict[Architecture, None]
    points: list[Architecture]  # the same, by number

    def is_valid(self, arch: Architecture) -> bool:
        """Whether it is one of the points, in whatever notation."""
        if arch in self.allowed:  # most are asked for as they are stored
            return True
        return super().is_valid(arch) and super().canonical(arch) in self.allowed

    def canonical(self, arch: Architecture) -> Architecture:
        """As in the whole space; the points are stored so."""
        return arch if arch in self.allowed else super().canonical(arch)

    def sample(self, rng: np.random.Generator, max_tries: int = MAX_TRIES) -> Architecture:
        """One of the points, all alike."""
        return self.points[int(rng.integers(len(self.points)))]

    def mutate(self, arch: Architecture, rng: np.random.Generator, max_tries: int = MAX_TRIES) -> Architecture:
        """A point in which one decision takes another option, or one of those that differ in the fewest."""
        try:
            return super().mutate(arch, rng, max_tries)
        except NoValidArchitecture:
            picks = super().canonical(arch).picks
            candidates = [candidate for candidate in self.allowed if candidate.picks != picks]
            if not candidates:
                raise
            distance = np.array(
                [sum(a != b for a, b in zip(picks, candidate.picks, strict=True)) for candidate in candidates]
            )
            nearest = np.flatnonzero(distance == distance.min())
            return candidates[int(nearest[rng.integers(len(nearest))])]


def only(space: Space, archs: Iterable[Architecture]) -> Space:
    """The same space with these points alone: the notation, the features and the networks are those of the space.

    Args:
        space: Space of the points; it is not changed.
        archs: Points of the new space; other notations of the same count once.

    Raises:
        UserError: There are none.
    """
    allowed = dict.fromkeys(space.canonical(arch) for arch in archs)
    if not allowed:
        raise UserError(f"of space {space.name!r} no point is left.")
    narrowed: Any = copy.copy(space)
    narrowed.__class__ = _class(type(space))
    narrowed.allowed, narrowed.points = allowed, list(allowed)
    return cast("Space", narrowed)


_CLASSES: dict[Any, Any] = {}  # of spaces, the classes of those with some points alone


def _class(kind: Any) -> Any:
    if kind not in _CLASSES:
        _CLASSES[kind] = type(kind.__name__, (_Only, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})
    return _CLASSES[kind]
