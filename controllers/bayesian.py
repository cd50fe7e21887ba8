"""Bayesian optimization with a Gaussian process (Snoek et al. 2012, arXiv 1206.2944; White et al. 2021, 1910.11858)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from controllers.candidates import PARENTS, Features, OneScoreController, chosen_outcomes
from controllers.core import Proposal
from controllers.gaussian_process import Array, Groups, Kernel, Posterior, fit_kernel
from controllers.ranks import normal_scores
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

FIT_EVERY, FIT_GROWTH, FIT_POINTS = 10, 1.2, 200  # outcomes between two fits of the kernel, and outcomes fitted to
TIE = 1e-6  # gains that differ by a smaller share are equal, so that rounding decides nothing


@dataclass(frozen=True)
class Observed:
    """The observations of the process.

    Attributes:
        archs: Architectures that are known, n of them; what is running comes last.
        points: Features of the architectures.
        values: Values of those that are not running.
    """

    archs: list[Architecture]
    points: Groups
    values: Array


class Bayesian(OneScoreController):
    """Propose the architecture of the highest expected improvement under a Gaussian process.

    - Features: the decisions as one-hot columns, how often each option is chosen, and what the space knows about the
      graph, which for cells is counts of paths as in BANANAS (White et al.). Each of these groups has a length scale
      and a variance of its own, fitted to the outcomes after every tenth, later more rarely.
    - Values: the ranks of the scores, as quantiles of the normal distribution. The scale of the scores, and how bad the
      bad ones are, makes no difference. Candidates that failed lie one deviation below the worst of the others.
    - Candidates: all networks of a space of up to 32,768 combinations, equal ones once. In a larger space `pool`
      architectures, one half uniform and one half mutations of the ten best, and then as many mutations of the ten
      most promising among these.
    - Acquisition: expected improvement over the highest posterior mean of an architecture that is known; the best
      score itself may be luck.
    - Several workers: what is running is believed to turn out as the process expects, so its mean stays and its
      variance shrinks ("kriging believer", Ginsbourger et al. 2010).
    - Nothing is proposed again, nor is a network equal to it (`canonical`), before all candidates are known.
    - After more than `points` outcomes the process sees the newest of them and a selection of the older ones, of which
      one half are the best and the others evenly spread in time.

    Deviations from the papers: Snoek et al. have one kernel with a scale for each dimension and integrate over the
    hyperparameters, where we take the most likely ones; BANANAS has an ensemble of neural networks, Thompson sampling
    and mutations only.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        initial: Number of architectures drawn uniformly before the first model.
        pool: Number of candidates in a large space.
        points: Largest number of outcomes that the process sees at a time; time and memory grow with it.
        features: Further features of architectures, in Python only; see `CandidateController`.
    """

    name = "bayesian"
    summary = "expected improvement under a Gaussian process over decisions and paths"
    source = "Snoek et al. 2012, arXiv 1206.2944; White et al. 2021, arXiv 1910.11858"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        initial: int = 10,
        pool: int = 400,
        points: int = 500,
        features: Features | None = None,
    ) -> None:
        super().__init__(space, seed=seed, features=features)
        if initial < 1 or pool < 2 or points < 8:
            raise UserError(f"initial={initial}, pool={pool}, points={points} must be at least 1, 2 and 8.")
        self.initial, self.pool, self.points = initial, pool, points
        self.older: tuple[int, list[int]] = (0, [])  # of so many outcomes, those that the process sees
        self.kernel: Kernel | None = None
        self.fitted_at = 0  # outcomes
        self.posterior: Posterior | None = None  # of the whole of a small space
        self.known_places: list[int] = []  # the places in it of what is known

    # ---- ask and tell

    def _propose(self) -> Proposal:
        starting = len(self.outcomes) + len(self.running) < self.initial
        arch = self._draw() if starting else self._most_promising()
        self.running.append(arch)
        self._remember(arch)
        return Proposal(arch)

    # ---- candidates

    def _most_promising(self) -> Architecture:
        seen = self._seen()
        values = normal_scores(np.array([self.outcomes[index][1] for index in seen]))
        archs = [*(self.outcomes[index][0] for index in seen), *self.running]
        observed = Observed(archs, self._points(archs), values)
        kernel = self._fit(observed)
        if self._whole is not None:
            return self._best_of_all(*self._whole, kernel, observed)
        ranked = sorted(seen, key=lambda index: -self.outcomes[index][1])
        parents = [self.outcomes[index][0] for index in ranked[:PARENTS] if self.outcomes[index][1] > -math.inf]
        return self._best_of_pool(parents, kernel, observed)

    def _best_of_all(
        self, places: dict[Architecture, int], features: Groups, kernel: Kernel, observed: Observed
    ) -> Architecture:
        if self.posterior is None or self.posterior.kernel is not kernel:
            self.posterior = Posterior(kernel, features)
        gains = expected_improvement(self.posterior, observed)
        if len(self.known) < len(places):
            self.known_places += [places[arch] for arch in itertools.islice(self.known, len(self.known_places), None)]
            gains[self.known_places] = -math.inf
        return list(places)[self._choose(gains)]

    def _best_of_pool(self, parents: list[Architecture], kernel: Kernel, observed: Observed) -> Architecture:
        drawn = [self._draw() for _ in range(self.pool // 2)]
        archs = self._new([*drawn, *self._mutations(parents, self.pool - len(drawn))])
        gains = expected_improvement(Posterior(kernel, self._feature_groups(archs)), observed)
        promising = [archs[place] for place in np.argsort(-gains, kind="stable")[:PARENTS].tolist()]
        mutations = self._new(self._mutations(promising, self.pool // 2))
        gains = np.append(gains, expected_improvement(Posterior(kernel, self._feature_groups(mutations)), observed))
        return [*archs, *mutations][self._choose(gains)]

    def _choose(self, gains: Array) -> int:
        best = float(gains.max())
        ties = np.flatnonzero(gains >= best * (1 - TIE))
        return int(ties[self.rng.integers(len(ties))])

    def _seen(self) -> list[int]:
        """The outcomes that the process sees, see `chosen_outcomes`."""
        self.older, seen = chosen_outcomes(self._best_first, len(self.outcomes), self.points, self.older)
        return seen

    def _best_first(self, count: int) -> list[int]:
        return sorted(range(count), key=lambda index: -self.outcomes[index][1])

    def _fit(self, observed: Observed) -> Kernel:
        """The kernel, fitted again if there are enough outcomes since the last time."""
        if self.kernel is None:
            self.kernel = self._prior
        if len(self.outcomes) >= max(self.fitted_at + FIT_EVERY, FIT_GROWTH * self.fitted_at):
            chosen = np.unique(np.linspace(0, len(observed.values) - 1, FIT_POINTS).astype(int))
            sample = tuple(group[chosen] for group in observed.points)
            self.kernel = fit_kernel(self.kernel, self._prior, sample, observed.values[chosen])
            self.fitted_at = len(self.outcomes)
        return self.kernel

    # ---- state

    def _state(self) -> dict[str, Any]:
        kernel = self.kernel
        return super()._state() | {
            "kernel": None if kernel is None else [list(kernel.scales), list(kernel.variances), kernel.noise],
            "fitted_at": self.fitted_at,
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        super()._load_state(state)
        kernel = state["kernel"]
        self.kernel = None if kernel is None else Kernel(tuple(kernel[0]), tuple(kernel[1]), float(kernel[2]))
        self.fitted_at = int(state["fitted_at"])
        self.older, self.posterior, self.known_places = (0, []), None, []


def expected_improvement(posterior: Posterior, observed: Observed) -> Array:
    """By how much the candidates exceed the best known mean on average, where what falls short counts zero."""
    posterior.observe(observed.archs, observed.points)
    values = observed.values
    best = float(posterior.mean_at_observed(values).max()) if len(values) else 0.0
    deviation = posterior.deviation()
    z = (posterior.mean(values) - best) / deviation
    gains: Array = deviation * (z * ndtr(z) + np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi))
    return gains
