"""The candidates of a controller with a model: architectures that are not known yet, and their features."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from controllers.core import Controller, Outcome
from controllers.gaussian_process import Array, Groups, Kernel, default_kernel
from search_spaces import Architecture, SearchSpace
from search_spaces.core import MAX_TRIES

Features = Callable[[Sequence[Architecture]], Array]

WHOLE = 2**15  # a space of up to so many combinations is looked at as a whole
PARENTS = 10  # the architectures whose mutations are candidates in larger spaces
REFERENCE = 256  # architectures that tell how far apart two of the space are


class CandidateController(Controller):
    """A controller that remembers what is known, and looks at candidates by their features.

    Networks are known by their canonical architectures.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        features: Function that gives (n, k) further numbers of n architectures, such as zero-cost proxies or
            `space.graf_features`, as one more group of features; the same for the same architecture. Its columns are
            standardized.
    """

    def __init__(self, space: SearchSpace, *, seed: int, features: Features | None = None) -> None:
        super().__init__(space, seed=seed)
        self.features = features
        self.running: list[Architecture] = []
        self.known: dict[Architecture, Array] = {}  # with an outcome or running, in order, with all features in a row

    def _remember(self, arch: Architecture) -> None:
        if arch not in self.known:
            self.known[arch] = np.hstack(self._feature_groups([arch]))[0]

    def _arrived(self, arch: Architecture) -> Architecture:
        """The canonical architecture of an outcome, which runs no longer and is known."""
        arch = self.space.canonical(arch)
        if arch in self.running:
            self.running.remove(arch)
        self._remember(arch)
        return arch

    def _feature_groups(self, archs: Sequence[Architecture]) -> Groups:
        """The features of architectures: those of the space, and those of `features`."""
        groups = self.space.feature_groups(archs)
        if self.features is None:
            return groups
        middle, width = self._standard
        return (*groups, (self.features(archs) - middle) / width)

    @cached_property
    def _standard(self) -> tuple[Array, Array]:
        """Mean and deviation of `features` over the architectures of `_reference`."""
        assert self.features is not None, "the caller asks"
        columns = self.features(self._reference_archs)
        return columns.mean(axis=0), np.where(columns.std(axis=0) > 0, columns.std(axis=0), 1.0)

    def _draw(self) -> Architecture:
        """A new architecture; one that is known if no new one is found."""
        for _ in range(MAX_TRIES):
            arch = self.space.canonical(self.space.sample(self.rng))
            if arch not in self.known:
                break
        return arch

    def _mutations(self, parents: Sequence[Architecture], count: int) -> list[Architecture]:
        children = (self.space.mutate(parents[i % len(parents)], self.rng) for i in range(count if parents else 0))
        return [self.space.canonical(child) for child in children]

    def _new(self, archs: Sequence[Architecture]) -> list[Architecture]:
        """Each architecture once, without those that are known, unless all are."""
        once = list(dict.fromkeys(archs))
        return [arch for arch in once if arch not in self.known] or once

    def _points(self, archs: Sequence[Architecture]) -> Groups:
        """Features of known architectures."""
        rows = np.array([self.known[arch] for arch in archs])
        return tuple(np.split(rows, self._edges, axis=1))

    @cached_property
    def _whole(self) -> tuple[dict[Architecture, int], Groups] | None:
        """All networks of a small space, numbered, with their features; None if the space is large."""
        sizes = self.space.layout.sizes
        if math.prod(sizes) > WHOLE:
            return None
        every = (Architecture(self.space.name, picks) for picks in itertools.product(*map(range, sizes)))
        archs = dict.fromkeys(self.space.canonical(arch) for arch in every if self.space.is_valid(arch))
        return {arch: place for place, arch in enumerate(archs)}, self._feature_groups(list(archs))

    @cached_property
    def _reference_archs(self) -> list[Architecture]:
        """Some architectures of the space, the same ones whatever the seed."""
        rng = np.random.default_rng(0)
        return [self.space.canonical(self.space.sample(rng)) for _ in range(REFERENCE)]

    @cached_property
    def _reference(self) -> Groups:
        return self._feature_groups(self._reference_archs)

    @cached_property
    def _prior(self) -> Kernel:
        return default_kernel(self._reference)

    @cached_property
    def _edges(self) -> list[int]:
        """The columns of `space.encode` at which a new group of features begins."""
        edges: list[int] = np.cumsum([group.shape[1] for group in self._reference])[:-1].tolist()
        return edges


class OneScoreController(CandidateController):
    """A controller of one score that remembers all outcomes.

    Attributes:
        outcomes: Architectures with their scores, in the order in which they came; minus infinity where one failed.
    """

    def __init__(self, space: SearchSpace, *, seed: int, features: Features | None = None) -> None:
        super().__init__(space, seed=seed, features=features)
        self.outcomes: list[tuple[Architecture, float]] = []

    def _observe(self, outcome: Outcome) -> None:
        arch = self._arrived(outcome.proposal.arch)
        self.outcomes.append((arch, -math.inf if outcome.scores is None else outcome.scores[0]))

    def _state(self) -> dict[str, Any]:
        return {
            "told": [[list(arch.picks), None if score == -math.inf else score] for arch, score in self.outcomes],
            "running": [list(arch.picks) for arch in self.running],
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.outcomes = [
            (self.space.architecture(picks), -math.inf if score is None else float(score))
            for picks, score in state["told"]
        ]
        self.running = [self.space.architecture(picks) for picks in state["running"]]
        self.known.clear()
        for arch in [*(arch for arch, _ in self.outcomes), *self.running]:
            self._remember(arch)


def chosen_outcomes(
    best_first: Callable[[int], Sequence[int]], count: int, most: int, before: tuple[int, list[int]]
) -> tuple[tuple[int, list[int]], list[int]]:
    """The outcomes that a model sees: all, or the newest and a selection that changes every most / 2.

    Args:
        best_first: Function that gives the first outcomes, so many of them, the best first; called where the selection
            changes. It depends on these outcomes alone, so that a search that goes on makes the same selection.
        count: Number of outcomes.
        most: Largest number of outcomes that the model sees at a time.
        before: Number of outcomes at the last selection, and those that were selected then.

    Returns:
        What is `before` the next time, and the outcomes in order.
    """
    half = most // 2
    if count <= most:
        return before, list(range(count))
    old = (count - 1) // half * half
    if before[0] != old:
        ranked = list(best_first(old))
        best, remaining = ranked[: half // 2], sorted(ranked[half // 2 :])
        spread = np.linspace(0, len(remaining) - 1, half - len(best)).astype(int).tolist()
        before = (old, sorted([*best, *(remaining[place] for place in spread)]))
    return before, [*before[1], *range(old, count)]
