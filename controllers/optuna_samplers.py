"""Samplers of Optuna (Akiba et al. 2019, arXiv 1907.10902) as controllers."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from controllers.core import Controller, Outcome, Proposal
from controllers.quiet import quiet_optuna
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

MAX_INVALID = 20  # draws in a row that are no architecture of the space
# The parameters that all trials share: a sampler follows them from trial to trial, and starting anew takes long.
DERIVED = ("_search_space", "_intersection_search_space")


class OptunaController(Controller):
    """An Optuna study in memory, whose parameters are the decisions that matter, suggested in their order.

    Each proposal is served by a fresh sampler whose seed comes from our generator, so that no sampler remembers
    anything but what follows from the trials, and the study is all there is to save.

    A failed candidate is reported with the worst of the scores so far (of each objective), since Optuna's samplers pass
    over failed trials and would propose the like again; before the first success it is reported as failed. Draws that
    are no architecture of the space are reported in the same way and repeated, after MAX_INVALID of them a uniform draw
    takes their place. The number of objectives is that of the first scores.
    """

    multi_objective = True

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        super().__init__(space, seed=seed)
        self._distributions = [CategoricalDistribution(range(size)) for size in space.layout.sizes]
        self._positions = {decision.name: position for position, decision in enumerate(space.decisions)}
        self._running: dict[Architecture, list[int]] = {}  # numbers of trials
        self._worst: list[float] | None = None
        self._sampler(0)  # a bad option is the user's mistake now, not at the first proposal
        self._open_study(1, [])

    @abstractmethod
    def _sampler(self, seed: int) -> BaseSampler: ...

    def _propose(self) -> Proposal:
        for _ in range(MAX_INVALID):
            trial = self._begin()
            arch = self._suggest(trial)
            if self.space.is_valid(arch):
                break
            self._finish(trial.number, None)
        else:
            arch = self.space.sample(self.rng)
            trial = self._begin_with(arch)
        self._running.setdefault(arch, []).append(trial.number)
        return Proposal(arch)

    def _observe(self, outcome: Outcome) -> None:
        arch, scores = outcome.proposal.arch, outcome.scores
        if scores is not None:
            if self._worst is None:
                self._worst = list(scores)
                if len(scores) != len(self.study.directions):
                    self._open_study(len(scores), self.study.get_trials(deepcopy=False))
            self._worst = list(map(min, self._worst, scores))
        numbers = self._running.get(arch)
        if numbers is None:
            self._add(arch, scores)
            return
        self._finish(numbers.pop(0), scores)
        if not numbers:
            del self._running[arch]

    def _begin(self) -> optuna.Trial:
        sampler = self._sampler(int(self.rng.integers(2**31)))
        for name in DERIVED:
            if hasattr(sampler, name):
                setattr(sampler, name, getattr(self.study.sampler, name))
        self.study.sampler = sampler
        return self.study.ask()

    def _begin_with(self, arch: Architecture) -> optuna.Trial:
        self.study.enqueue_trial(self._params(arch))
        trial = self._begin()
        self._suggest(trial)
        return trial

    def _add(self, arch: Architecture, scores: tuple[float, ...] | None) -> None:
        """A finished trial for an architecture that was never asked for."""
        values, params = self._values(scores), self._params(arch)
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        distributions = self._distributions_of(params)
        self.study.add_trial(create_trial(state=state, values=values, params=params, distributions=distributions))

    def _params(self, arch: Architecture) -> dict[str, int]:
        flags, sizes = self.space.layout.active(arch.picks), self.space.layout.sizes
        return {
            name: arch.picks[position]
            for name, position in self._positions.items()
            if flags[position] and sizes[position] > 1
        }

    def _suggest(self, trial: optuna.Trial) -> Architecture:
        layout = self.space.layout
        picks, flags = [0] * len(layout.sizes), [False] * len(layout.sizes)
        for name, position in self._positions.items():
            flags[position] = layout.holds(layout.conditions[position], flags, picks)
            if flags[position] and layout.sizes[position] > 1:
                picks[position] = trial.suggest_categorical(name, range(layout.sizes[position]))
        return Architecture(self.space.name, tuple(picks))

    def _finish(self, number: int, scores: tuple[float, ...] | None) -> None:
        values = self._values(scores)
        self.study.tell(number, values, state=TrialState.FAIL if values is None else TrialState.COMPLETE)

    def _values(self, scores: tuple[float, ...] | None) -> list[float] | None:
        return self._worst if scores is None else list(scores)

    def _open_study(self, objectives: int, trials: list[FrozenTrial]) -> None:
        with quiet_optuna():
            self.study = optuna.create_study(directions=["maximize"] * objectives, sampler=self._sampler(0))
        self.study.add_trials(trials)

    def _state(self) -> dict[str, Any]:
        trials = [
            [trial.state.name, trial.values, trial.params, trial.system_attrs]
            for trial in self.study.get_trials(deepcopy=False)
        ]
        # NSGA-III keeps there which trials are the parents of a generation; Optuna has no public way to read it.
        study_attributes = self.study._storage.get_study_system_attrs(self.study._study_id)
        return {
            "objectives": len(self.study.directions),
            "trials": trials,
            "study": dict(study_attributes),
            "running": [[list(arch.picks), numbers] for arch, numbers in self._running.items()],
            "worst": self._worst,
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        trials = [
            create_trial(
                state=TrialState[name],
                values=values,
                params=params,
                distributions=self._distributions_of(params),
                system_attrs=attributes,
            )
            for name, values, params, attributes in state["trials"]
        ]
        self._open_study(int(state["objectives"]), trials)
        for key, value in state["study"].items():
            self.study._storage.set_study_system_attr(self.study._study_id, key, value)
        self._running = {self.space.architecture(picks): list(numbers) for picks, numbers in state["running"]}
        self._worst = None if state["worst"] is None else list(state["worst"])

    def _distributions_of(self, params: Mapping[str, int]) -> dict[str, BaseDistribution]:
        return {name: self._distributions[self._positions[name]] for name in params}


class OptunaTPE(OptunaController):
    """The tree-structured Parzen estimator of Optuna, multivariate (Falkner et al. 2018) and in groups of decisions.

    Running trials count as bad ones (constant liar), so that several workers do not all propose the same.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        n_startup_trials: Number of uniform draws before there is a model.
        n_ei_candidates: Number of draws of which the best is proposed.
    """

    name = "optuna_tpe"
    summary = "Optuna's tree-structured Parzen estimator"
    source = "Bergstra et al. 2011; Watanabe 2023, arXiv 2304.11127"

    def __init__(self, space: SearchSpace, *, seed: int, n_startup_trials: int = 10, n_ei_candidates: int = 24) -> None:
        if n_startup_trials < 0 or n_ei_candidates < 1:
            raise UserError(
                f"n_startup_trials={n_startup_trials}, n_ei_candidates={n_ei_candidates}: the first must be 0 or "
                f"more, the second 1 or more."
            )
        self.n_startup_trials, self.n_ei_candidates = n_startup_trials, n_ei_candidates
        super().__init__(space, seed=seed)

    def _sampler(self, seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # groups
            return TPESampler(
                seed=seed,
                n_startup_trials=self.n_startup_trials,
                n_ei_candidates=self.n_ei_candidates,
                multivariate=True,
                group=bool(self.space.layout.conditional),
                constant_liar=True,
            )


class OptunaGP(OptunaController):
    """Bayesian optimization of Optuna: a Gaussian process and the logarithm of expected improvement.

    Decisions that matter only sometimes are drawn uniformly: the model sees those that always matter. Its cost grows
    with the cube of the number of outcomes; it is for hundreds of them.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        n_startup_trials: Number of uniform draws before there is a model.
    """

    name = "optuna_gp"
    summary = "Optuna's Gaussian process, for hundreds of candidates"
    source = "Akiba et al. 2019, arXiv 1907.10902; Ament et al. 2023, arXiv 2310.20708"

    def __init__(self, space: SearchSpace, *, seed: int, n_startup_trials: int = 10) -> None:
        if n_startup_trials < 1:
            raise UserError(f"n_startup_trials={n_startup_trials} must be 1 or more.")
        self.n_startup_trials = n_startup_trials
        super().__init__(space, seed=seed)

    def _sampler(self, seed: int) -> BaseSampler:
        return GPSampler(seed=seed, n_startup_trials=self.n_startup_trials, warn_independent_sampling=False)


class OptunaNSGA2(OptunaController):
    """NSGA-II of Optuna.

    Decisions that matter only sometimes are drawn uniformly, as Optuna's genetic samplers do.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        population_size: Size of a generation.
        mutation_prob: Probability that a decision is drawn anew; by default 1 / number of decisions.
        crossover_prob: Probability that a child has two parents.
        swapping_prob: Probability that a decision comes from the second of them.
    """

    name = "optuna_nsga2"
    summary = "Optuna's NSGA-II"
    source = "Deb et al. 2002, doi 10.1109/4235.996017"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        population_size: int = 50,
        mutation_prob: float | None = None,
        crossover_prob: float = 0.9,
        swapping_prob: float = 0.5,
    ) -> None:
        chances = (crossover_prob, swapping_prob, 0.0 if mutation_prob is None else mutation_prob)
        if population_size < 2 or not all(0 <= chance <= 1 for chance in chances):
            raise UserError(
                f"population_size={population_size}, crossover_prob={crossover_prob}, swapping_prob={swapping_prob}, "
                f"mutation_prob={mutation_prob}: the population must be 2 or more, probabilities from 0 to 1."
            )
        self.population_size, self.mutation_prob = population_size, mutation_prob
        self.crossover_prob, self.swapping_prob = crossover_prob, swapping_prob
        super().__init__(space, seed=seed)

    def _sampler(self, seed: int) -> BaseSampler:
        return NSGAIISampler(
            seed=seed,
            population_size=self.population_size,
            mutation_prob=self.mutation_prob,
            crossover_prob=self.crossover_prob,
            swapping_prob=self.swapping_prob,
        )

    def _begin_with(self, arch: Architecture) -> optuna.Trial:
        # A trial is assigned to a generation when its parameters are drawn; these were given.
        trial = super()._begin_with(arch)
        sampler = self.study.sampler
        assert isinstance(sampler, NSGAIISampler | NSGAIIISampler), "that is what _sampler() makes"
        sampler.get_trial_generation(self.study, self.study.get_trials(deepcopy=False)[trial.number])
        return trial

    def _add(self, arch: Architecture, scores: tuple[float, ...] | None) -> None:
        self._finish(self._begin_with(arch).number, scores)


class OptunaNSGA3(OptunaNSGA2):
    """NSGA-III of Optuna, for three objectives and more.

    Decisions that matter only sometimes are drawn uniformly, as Optuna's genetic samplers do.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        population_size: Size of a generation.
        mutation_prob: Probability that a decision is drawn anew; by default 1 / number of decisions.
        crossover_prob: Probability that a child has two parents.
        swapping_prob: Probability that a decision comes from the second of them.
        dividing_parameter: Divisions of an axis by reference points.
    """

    name = "optuna_nsga3"
    summary = "Optuna's NSGA-III, for three objectives and more"
    source = "Deb & Jain 2014, doi 10.1109/TEVC.2013.2281535"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        population_size: int = 50,
        mutation_prob: float | None = None,
        crossover_prob: float = 0.9,
        swapping_prob: float = 0.5,
        dividing_parameter: int = 3,
    ) -> None:
        if dividing_parameter < 1:
            raise UserError(f"dividing_parameter={dividing_parameter} must be 1 or more.")
        self.dividing_parameter = dividing_parameter
        super().__init__(
            space,
            seed=seed,
            population_size=population_size,
            mutation_prob=mutation_prob,
            crossover_prob=crossover_prob,
            swapping_prob=swapping_prob,
        )

    def _sampler(self, seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return NSGAIIISampler(
                seed=seed,
                population_size=self.population_size,
                mutation_prob=self.mutation_prob,
                crossover_prob=self.crossover_prob,
                swapping_prob=self.swapping_prob,
                dividing_parameter=self.dividing_parameter,
            )
