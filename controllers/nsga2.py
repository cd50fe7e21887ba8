"""NSGA-II (Deb et al. 2002, doi 10.1109/4235.996017)."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from controllers.core import Controller, Outcome, Proposal, dominance
from nasbench_registry import UserError
from search_spaces import Architecture, NoValidArchitecture, SearchSpace

Member = tuple[Architecture, tuple[float, ...] | None, float | None]  # with scores and violation


class NSGA2(Controller):
    """Generations in which parents and children compete by non-dominated rank, then by crowding distance.

    A failed candidate is dominated by every successful one, and by every failed one that is less far beyond the
    limits: the paper's constrained domination. So a search in which nothing meets the limits yet goes towards them.
    What failed in another way comes last. With one score the ranks are those of the score.

    Deviations from the paper: crossover is uniform, and mutation changes exactly one decision that matters, where the
    paper changes each bit with the probability 1 / number of bits, one on average; children do not wait for
    each other: a generation ends with the outcome that makes its children as many as the population, in whatever
    order they were asked for, and idle workers go on with further children of the same parents (in the first
    generation: with random architectures).

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        population: Number of architectures that survive a generation.
        crossover: Probability that a child has two parents.
        mutation: Probability that a child is mutated.
    """

    name = "nsga2"
    summary = "generations ranked by dominance, then by crowding"
    source = "Deb et al. 2002, doi 10.1109/4235.996017"
    multi_objective = True

    def __init__(
        self, space: SearchSpace, *, seed: int, population: int = 100, crossover: float = 0.9, mutation: float = 1.0
    ) -> None:
        super().__init__(space, seed=seed)
        if population < 2 or not 0 <= crossover <= 1 or not 0 <= mutation <= 1:
            raise UserError(
                f"population={population}, crossover={crossover}, mutation={mutation}: the population must be 2 or "
                f"more, the probabilities from 0 to 1."
            )
        self.population, self.crossover, self.mutation = population, crossover, mutation
        self.parents: list[Member] = []  # the best first
        self.children: list[Member] = []

    def lookahead(self, waiting: int) -> int:
        """The rest of a generation, whose children have the same parents."""
        return max(1, self.population - len(self.children) - waiting)

    def _propose(self) -> Proposal:
        if not self.parents:
            return Proposal(self.space.sample(self.rng))
        child = self._winner()
        if self.rng.random() < self.crossover:
            with contextlib.suppress(NoValidArchitecture):  # too few between these two: one parent, then
                child = self.space.crossover(child, self._winner(), self.rng)
        if self.rng.random() < self.mutation:
            child = self.space.mutate(child, self.rng)
        return Proposal(child)

    def _winner(self) -> Architecture:
        """The better of two random parents: they are kept in the order of rank and crowding."""
        return self.parents[int(self.rng.integers(len(self.parents), size=2).min())][0]

    def _observe(self, outcome: Outcome) -> None:
        self.children.append((outcome.proposal.arch, outcome.scores, outcome.violation))
        if len(self.children) == self.population:
            members = [*self.parents, *self.children]
            order = crowded_order([scores for _, scores, _ in members], [beyond for *_, beyond in members])
            self.parents = [members[index] for index in order[: self.population]]
            self.children = []

    def _state(self) -> dict[str, Any]:
        return {"parents": _to_json(self.parents), "children": _to_json(self.children)}

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.parents, self.children = (
            [
                (self.space.architecture(picks), None if scores is None else tuple(scores), *(violation or [None]))
                for picks, scores, *violation in state[key]  # none in runs of earlier versions
            ]
            for key in ("parents", "children")
        )


def _to_json(members: list[Member]) -> list[list[Any]]:
    return [[list(arch.picks), None if scores is None else list(scores), beyond] for arch, scores, beyond in members]


def crowded_order(scores: Sequence[tuple[float, ...] | None], violations: Sequence[float | None]) -> list[int]:
    """Indices from the best to the worst.

    By non-dominated rank, then the least crowded first; then the failed ones by their violations, None last. Of those
    with the same violation, which are often the same network in other words, one comes in its place and the others
    behind all that differ; so what survives is not copies of one.
    """
    alive = [index for index, member_scores in enumerate(scores) if member_scores is not None]
    values = np.array([scores[index] for index in alive], dtype=np.float64)
    order: list[int] = []
    for front in non_dominated_fronts(values) if alive else []:
        crowding = crowding_distance(values[front])
        order += [alive[front[index]] for index in np.argsort(-crowding, kind="stable")]
    failed = [index for index, member_scores in enumerate(scores) if member_scores is None]
    beyond = [math.inf if violation is None else violation for violation in violations]
    times: Counter[float] = Counter()
    places = {}
    for index in failed:
        places[index] = (beyond[index] == math.inf, times[beyond[index]], beyond[index])
        times[beyond[index]] += 1
    return order + sorted(failed, key=places.__getitem__)


def non_dominated_fronts(values: npt.NDArray[np.float64]) -> list[npt.NDArray[np.int64]]:
    """For values (n, objectives), larger is better: the rows of the first front, then those of the next, ..."""
    matrix = dominance(values)
    dominated_by = matrix.sum(axis=0)
    fronts = []
    remaining = len(values)
    while remaining:
        front = np.flatnonzero(dominated_by == 0)
        fronts.append(front)
        dominated_by = dominated_by - matrix[front].sum(axis=0)
        dominated_by[front] = -1  # done
        remaining -= len(front)
    return fronts


def crowding_distance(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For the values (n, objectives) of a front: the normalised sides of the box between a member's neighbours, summed.

    The ends of every objective are infinitely far from all others.
    """
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance
