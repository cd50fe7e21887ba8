"""Expected hypervolume for each second: another recipe for a trained network, or a new network (arXiv 2411.03731)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from controllers.candidates import Features
from controllers.core import Outcome
from controllers.ehvi import EHVI, SHORT_LIST, TIE, Seen
from controllers.gaussian_process import Array, Groups
from nasbench_registry import UserError
from search_spaces import Architecture, NoValidArchitecture, SearchSpace
from search_spaces.product import ProductSpace

Picks = tuple[int, ...]

LEAST_S = 1e-3  # seconds that anything costs at least
RIDGE = 1.0  # pull of the models of seconds to their mean
PER_NETWORK = 3  # proposals for each network in the beginning
FROM_FRONT = 0.5  # of the candidates, those that take a network or a recipe from the front


class CostAware(EHVI):
    """Propose what promises the largest gain of hypervolume for each second that it costs.

    For a product of a space of networks, whose training is dear, and of others, such as recipes, which are cheap. The
    gain is that of `ehvi`: a Gaussian process for each objective and one for the limits, over the network, over the
    recipe and over both. What it costs is learned beside:

    - The seconds of training, by the network, and those of the recipe, by network and recipe: linear models of their
      logarithms. Training is what `Outcome.shared_seconds` says; where nobody says it, it is what the first outcome of
      a network took beyond what its recipe is expected to take.
    - Two maxima: over other recipes for networks that are trained, each for the seconds of the recipe; and over new
      networks, for the seconds of training and recipe. The larger one is proposed. Where training costs nothing, as
      with an elastic network whose weights are shared, the two are alike.
    - The exponent of the cost is 1 in the beginning and falls to 0 as `budget_seconds` are used, so that a search ends
      with what gains most and not with what is cheapest. Without a budget it stays 1.

    In any other space every candidate is a new network. Two of three of the first `initial` proposals are recipes for a
    network that is trained.

    Deviations from EEIPU: one prefix and one suffix in place of many stages; expected hypervolume in place of expected
    improvement; the expected cost is the exponential of the mean logarithm; the exponent falls with the seconds.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        initial: Number of proposals that are drawn before the first model.
        pool: Number of candidates of each of the two kinds.
        points: Largest number of outcomes that the processes see at a time.
        budget_seconds: Seconds of all evaluations together; in an experiment `search.max_hours` of all workers by
            default.
        features: Further features of architectures, in Python only; see `CandidateController`.
    """

    name = "cost_aware"
    summary = "expected hypervolume for each second: another recipe for a trained network, or another network"
    source = "Lai et al. 2024 (EEIPU), arXiv 2411.03731; Daulton et al. 2020, arXiv 2006.05078"
    takes_budget = True
    short_list = 2 * SHORT_LIST  # of two kinds of candidates

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        initial: int = 12,
        pool: int = 200,
        points: int = 300,
        budget_seconds: float | None = None,
        features: Features | None = None,
    ) -> None:
        super().__init__(space, seed=seed, initial=initial, pool=pool, points=points, features=features)
        if budget_seconds is not None and not budget_seconds > 0:
            raise UserError(f"budget_seconds is {budget_seconds!r}; give seconds above 0, or leave it out.")
        self.budget_seconds = budget_seconds
        self.product = space if isinstance(space, ProductSpace) else None
        self.cut = len(space.network.decisions) if isinstance(space, ProductSpace) else len(space.decisions)
        self.trained: dict[Picks, None] = {}  # networks, in the order in which they were known
        self.spent: list[tuple[Architecture, float, float | None, bool]] = []  # seconds, shared ones, a new network

    @cached_property
    def _whole(self) -> None:
        """Candidates are drawn: those of trained networks are others in every step."""
        return None

    @property
    def exponent(self) -> float:
        """The exponent of the cost: from 1 down to 0 as the budget is used."""
        if self.budget_seconds is None:
            return 1.0
        return max(0.0, 1.0 - sum(seconds for _, seconds, *_ in self.spent) / self.budget_seconds)

    # ---- ask and tell

    def _first(self) -> Architecture:
        recipe = self.trained and (len(self.outcomes) + len(self.running)) % PER_NETWORK
        candidates = self._new(self._known_networks(8, list(self.trained), [])) if recipe else []
        return next((arch for arch in candidates if arch not in self.known), None) or self._draw()

    def _observe(self, outcome: Outcome) -> None:
        super()._observe(outcome)
        arch = self.space.canonical(outcome.proposal.arch)
        network = arch.picks[: self.cut]
        new = network not in self.trained
        if outcome.scores is not None or (outcome.shared_seconds or 0) > 0:
            self.trained[network] = None
        if outcome.seconds is not None and math.isfinite(outcome.seconds):
            self.spent.append((arch, max(outcome.seconds, LEAST_S), outcome.shared_seconds, new))

    # ---- the choice

    def _most_promising(self) -> Architecture:
        seen = self._learn()
        recipes, networks = self._other_recipes(seen), self._unseen(seen)
        candidates = [*recipes, *networks]
        if not candidates:
            return self._draw()
        gains = self._gains(self._feature_groups(candidates), np.ones(len(candidates), dtype=bool), seen)
        seconds = [self.seconds(archs, trained=archs is recipes) for archs in (recipes, networks) if archs]
        worth = gains - self.exponent * np.log(np.concatenate(seconds))
        ties = np.flatnonzero(worth >= worth.max() - TIE)
        return candidates[int(ties[self.rng.integers(len(ties))])]

    def _other_recipes(self, seen: Seen) -> list[Architecture]:
        """Other recipes for networks that are trained."""
        if self.product is None or not self.trained:
            return []
        candidates = self._known_networks(self.pool, list(self.trained), seen.front or seen.archs)
        return [arch for arch in dict.fromkeys(candidates) if arch not in self.known]

    def _known_networks(
        self, count: int, networks: Sequence[Picks], front: Sequence[Architecture]
    ) -> list[Architecture]:
        """Trained networks, drawn or of the front, each with a recipe that is drawn or of the front."""
        product = self.product
        if product is None or not networks:
            return []
        archs = []
        for _ in range(count):
            network = networks[int(self.rng.integers(len(networks)))]
            if front and self.rng.random() < FROM_FRONT:
                network = front[int(self.rng.integers(len(front)))].picks[: self.cut]
            recipe: Picks = ()
            if front and self.rng.random() < FROM_FRONT:
                recipe = front[int(self.rng.integers(len(front)))].picks[self.cut :]
            else:
                for space in product.factors[1:]:
                    recipe += space.sample(self.rng).picks
            arch = Architecture(self.space.name, (*network, *recipe))
            if self.space.is_valid(arch):
                archs.append(self.space.canonical(arch))
        return archs

    def _unseen(self, seen: Seen) -> list[Architecture]:
        """New networks: drawn, or mutations of those on the front that keep their recipe; none if all are trained."""
        product, parents = self.product, seen.front or seen.archs
        candidates = [self._draw() for _ in range(self.pool - int(FROM_FRONT * self.pool))]
        if product is None:
            candidates += self._mutations(parents, self.pool - len(candidates))
            return self._new(candidates)
        for _ in range(self.pool - len(candidates)):
            arch = parents[int(self.rng.integers(len(parents)))]
            network, *rest = product.split(arch)
            try:
                network = product.network.mutate(network, self.rng)
            except NoValidArchitecture:
                continue
            child = product.join([network, *rest])
            if self.space.is_valid(child):
                candidates.append(self.space.canonical(child))
        fresh = [arch for arch in dict.fromkeys(candidates) if arch.picks[: self.cut] not in self.trained]
        return [arch for arch in fresh if arch not in self.known]

    # ---- what it costs

    def seconds(self, archs: Sequence[Architecture], *, trained: bool) -> Array:
        """(n,) what evaluations are expected to cost; ones while nothing is known.

        Args:
            archs: Architectures that would be evaluated.
            trained: Whether their networks are trained already, so that the recipe alone counts.
        """
        if not self.spent:
            return np.ones(len(archs))
        whole, networks = self._columns(archs)
        recipe_rows = [
            (arch, seconds - (shared or 0)) for arch, seconds, shared, new in self.spent if _recipe(shared, new)
        ]
        recipe_columns = (
            self._columns([arch for arch, _ in recipe_rows])[0] if recipe_rows else np.zeros((0, whole.shape[1]))
        )
        recipe_model = _Linear(recipe_columns, np.array([seconds for _, seconds in recipe_rows]))
        recipe_s = recipe_model(whole)
        if trained:
            return recipe_s
        firsts = [(arch, seconds, shared) for arch, seconds, shared, new in self.spent if new or (shared or 0) > 0]
        if not firsts:
            return recipe_s
        first_columns, first_network_columns = self._columns([arch for arch, *_ in firsts])
        usual = recipe_model(first_columns) if recipe_rows else np.zeros(len(firsts))
        training = np.array(
            [max(0.0, s - u) if shared is None else shared for (_, s, shared), u in zip(firsts, usual, strict=True)]
        )
        if training.max() <= LEAST_S:  # an elastic network: nothing is trained
            return recipe_s
        total: Array = recipe_s * (1.0 if recipe_rows else 0.0) + _Linear(first_network_columns, training)(networks)
        return total

    def _columns(self, archs: Sequence[Architecture]) -> tuple[Array, Array]:
        """One-hot decisions of architectures, and those of their networks alone."""
        columns = self.space.one_hot(archs)
        return columns, columns[:, : self._network_columns]

    @property
    def _network_columns(self) -> int:
        return int(sum(self.space.layout.sizes[: self.cut]))

    def _feature_groups(self, archs: Sequence[Architecture]) -> Groups:
        """Beside what the space knows, the network alone and the recipe alone."""
        groups = super()._feature_groups(archs)
        if self.product is None:
            return groups
        whole, network = self._columns(archs)
        return (*groups, network, whole[:, self._network_columns :])

    # ---- state

    def _state(self) -> dict[str, Any]:
        spent = [[list(arch.picks), seconds, shared, new] for arch, seconds, shared, new in self.spent]
        return super()._state() | {"trained": [list(picks) for picks in self.trained], "spent": spent}

    def _load_state(self, state: Mapping[str, Any]) -> None:
        super()._load_state(state)
        self.trained = dict.fromkeys(tuple(picks) for picks in state["trained"])
        self.spent = [
            (self.space.architecture(picks), float(seconds), shared, bool(new))
            for picks, seconds, shared, new in state["spent"]
        ]


def _recipe(shared: float | None, new: bool) -> bool:
    """Whether the seconds of an outcome tell what a recipe takes: training is known, or was not needed."""
    return shared is not None or not new


class _Linear:
    """Ridge regression of the logarithm of seconds on columns, around its mean.

    Args:
        columns: (n, d) columns of what was evaluated.
        seconds: (n,) seconds that it took; of none, everything is expected to take one second.
    """

    def __init__(self, columns: Array, seconds: Array) -> None:
        self.mean = 0.0
        self.middle: Array = np.zeros(columns.shape[1])
        self.weights: Array = np.zeros(columns.shape[1])
        if not len(seconds):
            return
        logs = np.log(np.maximum(seconds, LEAST_S))
        self.mean, self.middle = float(logs.mean()), columns.mean(axis=0)
        centred = columns - self.middle
        matrix = centred.T @ centred + RIDGE * np.eye(columns.shape[1])
        self.weights = np.asarray(np.linalg.solve(matrix, centred.T @ (logs - self.mean)), dtype=np.float64)

    def __call__(self, columns: Array) -> Array:
        """(m,) seconds."""
        seconds: Array = np.exp(self.mean + (columns - self.middle) @ self.weights)
        return seconds
