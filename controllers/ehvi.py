"""Bayesian optimization of several scores by expected hypervolume (arXiv 2006.05078, 2310.20708)."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_ndtr

from controllers.candidates import PARENTS, CandidateController, Features, chosen_outcomes
from controllers.core import Outcome, Proposal, front_of
from controllers.expected_hypervolume import MOST_LEVELS, boxes, log_expected_gain, spread
from controllers.gaussian_process import Array, Groups, Kernel, Posterior, fit_kernel
from controllers.ranks import normal_scores
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

FIT_EVERY, FIT_GROWTH, FIT_POINTS = 10, 1.2, 150  # outcomes between two fits of the kernels, and outcomes fitted to
SHORT_LIST = 256  # candidates of a kind whose expected hypervolume is worked out
TIE = 1e-6  # logarithms of gains that are nearer to each other are equal, so that rounding decides nothing
BELOW = 0.1  # how far the reference lies below the worst of each score, in standard deviations


@dataclass(frozen=True)
class Seen:
    """The outcomes that the processes see.

    Attributes:
        archs: Architectures with scores.
        values: (n, k) scores of `archs` as the processes see them.
        all_archs: Architectures with or without scores.
        margins: How far each of `all_archs` keeps within the limits; None if none breaks one.
        front: Architectures of `archs` that no other dominates.
    """

    archs: list[Architecture]
    values: Array
    all_archs: list[Architecture]
    margins: Array | None
    front: list[Architecture]


class EHVI(CandidateController):
    """Propose the architecture from which the largest gain of hypervolume is expected.

    One Gaussian process an objective, as in `bayesian`: one-hot decisions, counts of options, and what the space knows
    about the graph, each with a scale of its own; another one for how far a candidate keeps within the limits.

    - Scores: a score that has one sign over all outcomes and spans a factor of more than two is taken as its logarithm,
      as costs are compared; others as they are, but what lies far below the middle is drawn near. Both are then
      standardized. One score is treated as in `bayesian`.
    - Acquisition: the logarithm of the expected gain of hypervolume over the front of all outcomes, plus the logarithm
      of the probability that a candidate meets the limits. The reference lies just below the worst of each score
      among all outcomes, so that a search goes to both ends of the front, too.
    - Candidates: all networks of a space of up to 32,768 combinations, equal ones once. In a larger space `pool`
      architectures, one half uniform and one half mutations of the front. The acquisition is worked out for the 256
      whose mean plus deviation reaches farthest beyond the front.
    - Several workers: what is running is believed to turn out as the processes expect ("kriging believer", Ginsbourger
      et al. 2010), and its expected scores belong to the front.
    - Nothing is proposed again, nor is a network equal to it (`canonical`), before all candidates are known.
    - After more than `points` outcomes the processes see the newest and a selection of the older ones.

    Deviations from the papers: exact for independent processes, where qLogEHVI samples from the joint one; discrete
    candidates; of a front of more than 64, 24 or 12 points (two, three and four scores) a spread selection counts.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        initial: Number of architectures drawn uniformly before the first model.
        pool: Number of candidates in a large space.
        points: Largest number of outcomes that the processes see at a time; time and memory grow with it.
        features: Further features of architectures, in Python only; see `CandidateController`.
    """

    name = "ehvi"
    summary = "expected hypervolume improvement under Gaussian processes, for two to four scores with limits"
    source = "Daulton et al. 2020, arXiv 2006.05078; Ament et al. 2023, arXiv 2310.20708"
    multi_objective = True
    short_list = SHORT_LIST

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        initial: int = 10,
        pool: int = 400,
        points: int = 300,
        features: Features | None = None,
    ) -> None:
        super().__init__(space, seed=seed, features=features)
        if initial < 1 or pool < 2 or points < 8:
            raise UserError(f"initial={initial}, pool={pool}, points={points} must be at least 1, 2 and 8.")
        self.initial, self.pool, self.points = initial, pool, points
        self.outcomes: list[tuple[Architecture, tuple[float, ...] | None, float]] = []  # with violation
        self.older: tuple[int, list[int]] = (0, [])
        self.kernels: list[Kernel] = []  # one an objective, and one of the limits
        self.fitted_at = 0
        self.posteriors: dict[int, Posterior] = {}  # of the whole of a small space

    # ---- ask and tell

    def _propose(self) -> Proposal:
        starting = len(self.outcomes) + len(self.running) < self.initial or self.objectives is None
        arch = self._first() if starting else self._most_promising()
        self.running.append(arch)
        self._remember(arch)
        return Proposal(arch)

    def _first(self) -> Architecture:
        """One of the first proposals, before there is a model."""
        return self._draw()

    def _observe(self, outcome: Outcome) -> None:
        if outcome.scores is not None and len(outcome.scores) > max(MOST_LEVELS):
            raise UserError(
                f"controller {self.name!r} takes one to {max(MOST_LEVELS)} scores, not {len(outcome.scores)}; use "
                f"nsga2, or fewer objectives."
            )
        arch = self._arrived(outcome.proposal.arch)
        beyond = 0.0 if outcome.scores is not None else math.inf if outcome.violation is None else outcome.violation
        self.outcomes.append((arch, outcome.scores, beyond))

    # ---- the model

    def _learn(self) -> Seen:
        """The outcomes so far as the processes see them; fits the kernels again if it is time."""
        seen = self._seen()
        done = [index for index in seen if self.outcomes[index][1] is not None]
        scores = np.array([self.outcomes[index][1] for index in done])
        values = scaled(scores)
        archs = [self.outcomes[index][0] for index in done]
        all_archs = [self.outcomes[index][0] for index in seen]
        beyond = np.array([-self.outcomes[index][2] for index in seen])
        limited = bool((beyond < 0).any())
        margins = normal_scores(beyond) if limited else None
        self._fit(archs, values, all_archs, margins)
        front = [archs[index] for index in np.flatnonzero(_on_front(values)).tolist()]
        return Seen(archs, values, all_archs, margins, front)

    def _most_promising(self) -> Architecture:
        seen = self._learn()
        if self._whole is not None:
            places, features = self._whole
            names = list(places)
            free = np.ones(len(names), dtype=bool)
            if len(self.known) < len(names):
                free[[places[arch] for arch in self.known]] = False
            gains = self._gains(features, free, seen)
            return names[self._choose(gains)]
        drawn = [self._draw() for _ in range(self.pool // 2)]
        parents = seen.front or seen.archs
        order = self.rng.permutation(len(parents))[: 4 * PARENTS].tolist()
        mutated = self._mutations([parents[index] for index in order], self.pool - len(drawn))
        candidates = self._new([*drawn, *mutated])
        features = self._feature_groups(candidates)
        free = np.ones(len(candidates), dtype=bool)
        gains = self._gains(features, free, seen)
        return candidates[self._choose(gains)]

    def _gains(
        self,
        features: Groups,
        free: np.ndarray[Any, np.dtype[np.bool_]],
        seen: Seen,
    ) -> Array:
        """(m,) logarithms of the expected gains of the candidates, minus infinity for those that are not free."""
        archs, values, all_archs, margins = seen.archs, seen.values, seen.all_archs, seen.margins
        objectives = values.shape[1]
        mean, deviation, believed = [], [], []
        for objective in range(objectives):
            posterior = self._posterior(objective, features, [*archs, *self.running])
            objective_values = values[:, objective]
            mean.append(posterior.mean(objective_values))
            deviation.append(posterior.deviation())
            believed.append(posterior.believed(objective_values))
        means, deviations = np.stack(mean, axis=1), np.stack(deviation, axis=1)
        all_values = np.vstack([values, np.stack(believed, axis=1)]) if len(self.running) else values
        front = front_of(all_values)
        reference = all_values.min(axis=0) - BELOW
        log_probability = np.zeros(len(means))
        if margins is not None:
            posterior = self._posterior(objectives, features, [*all_archs, *self.running])
            failed = margins < margins.max()
            threshold = (margins[failed].max() + margins[~failed].min()) / 2 if (~failed).any() else margins.max()
            log_probability = log_ndtr((posterior.mean(margins) - threshold) / posterior.deviation())
        # How far the optimistic point is beyond the front, in the objective where it is farthest beyond each point.
        hopeful = np.ascontiguousarray((means + deviations).T)
        reach = np.full(len(means), np.inf)
        for point in front:
            np.minimum(reach, functools.reduce(np.maximum, hopeful - point[:, None]), out=reach)
        reach = np.where(free, reach + 0.5 * np.maximum(log_probability, -20), -np.inf)
        listed = np.argpartition(-reach, min(self.short_list, len(reach)) - 1)[: self.short_list]
        listed = np.sort(listed[free[listed]])
        low, high = boxes(spread(front, MOST_LEVELS[objectives]), reference)
        gains = np.full(len(means), -np.inf)
        gains[listed] = log_expected_gain(means[listed], deviations[listed], low, high) + log_probability[listed]
        return gains

    def _posterior(self, number: int, features: Groups, archs: Sequence[Architecture]) -> Posterior:
        kernel = self.kernels[number]
        posterior = self.posteriors.get(number)
        if posterior is None or posterior.kernel is not kernel or self._whole is None:
            posterior = Posterior(kernel, features)
            if self._whole is not None:
                self.posteriors[number] = posterior
        posterior.observe(archs, self._points(archs))
        return posterior

    def _choose(self, gains: Array) -> int:
        ties = np.flatnonzero(gains >= gains.max() - TIE)
        return int(ties[self.rng.integers(len(ties))])

    def _seen(self) -> list[int]:
        """The outcomes that the processes see, see `chosen_outcomes`."""
        self.older, seen = chosen_outcomes(self._best_first, len(self.outcomes), self.points, self.older)
        return seen

    def _best_first(self, count: int) -> list[int]:
        """The first outcomes: their front, then by the sum of ranks; those without scores last, by their violation."""
        done = [index for index in range(count) if self.outcomes[index][1] is not None]
        rest = sorted(set(range(count)) - set(done), key=lambda index: self.outcomes[index][2])
        if not done:
            return rest
        values = np.array([self.outcomes[index][1] for index in done])
        order = np.lexsort((-np.argsort(np.argsort(values, axis=0), axis=0).sum(axis=1), ~_on_front(values)))
        return [*(done[index] for index in order.tolist()), *rest]

    def _fit(
        self, archs: list[Architecture], values: Array, all_archs: list[Architecture], margins: Array | None
    ) -> None:
        """Fit the kernels again if there are enough outcomes since the last time."""
        needed = values.shape[1] + 1
        while len(self.kernels) < needed:
            self.kernels.append(self._prior)
        if len(self.outcomes) < max(self.fitted_at + FIT_EVERY, FIT_GROWTH * self.fitted_at):
            return
        targets = [(archs, values[:, objective]) for objective in range(values.shape[1])]
        if margins is not None:
            targets.append((all_archs, margins))
        for number, (names, target_values) in enumerate(targets):
            chosen = np.unique(np.linspace(0, len(target_values) - 1, FIT_POINTS).astype(int))
            points = self._points([names[index] for index in chosen.tolist()])
            self.kernels[number] = fit_kernel(self.kernels[number], self._prior, points, target_values[chosen])
        self.fitted_at = len(self.outcomes)

    # ---- state

    def _state(self) -> dict[str, Any]:
        return {
            "told": [
                [list(arch.picks), None if scores is None else list(scores), None if beyond == math.inf else beyond]
                for arch, scores, beyond in self.outcomes
            ],
            "running": [list(arch.picks) for arch in self.running],
            "kernels": [[list(kernel.scales), list(kernel.variances), kernel.noise] for kernel in self.kernels],
            "fitted_at": self.fitted_at,
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.outcomes = [
            (
                self.space.architecture(picks),
                None if scores is None else tuple(scores),
                math.inf if beyond is None else float(beyond),
            )
            for picks, scores, beyond in state["told"]
        ]
        self.running = [self.space.architecture(picks) for picks in state["running"]]
        self.known.clear()
        for arch in itertools.chain((arch for arch, *_ in self.outcomes), self.running):
            self._remember(arch)
        self.kernels = [
            Kernel(tuple(scales), tuple(variances), float(noise)) for scales, variances, noise in state["kernels"]
        ]
        self.fitted_at = int(state["fitted_at"])
        self.older, self.posteriors = (0, []), {}


def _on_front(values: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(n,) whether no other row dominates it; larger is better."""
    front = {tuple(row) for row in front_of(values).tolist()} if len(values) else set()
    return np.array([tuple(row) in front for row in values.tolist()], dtype=bool)


def scaled(scores: Array) -> Array:
    """(n, k) scores as the processes see them, see `EHVI`: standardized, columns of costs by their logarithms."""
    if scores.shape[1] == 1:
        return normal_scores(scores[:, 0])[:, None]
    columns = []
    for column in scores.T:
        size = np.abs(column)
        if ((column < 0).all() or (column > 0).all()) and size.max() > SPAN * size.min():
            column = np.sign(column) * np.log(size)
        middle = np.median(column)
        usual = np.median(np.abs(column - middle)) or column.std() or 1.0
        column = np.maximum(column, middle - FAR * usual)
        columns.append((column - column.mean()) / (column.std() or 1.0))
    return np.stack(columns, axis=1)


SPAN = 2.0  # a larger factor between two costs, and they are compared by their logarithms
FAR = 6.0  # times the median distance from the median: what lies farther below is drawn near
