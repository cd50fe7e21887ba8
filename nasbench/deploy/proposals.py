"""Which setting to try next: default options first, then a tree-structured Parzen estimator, and none twice.

Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, as Optuna's `TPESampler` has it.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import Trial, TrialState

from nasbench.deploy.setting import Setting
from nasbench.storage.optuna_storage import open_storage

STUDY = "tune"
PATIENCE = (
    30  # proposals that were tried before, in a row, until one is drawn by chance, of the backend that it names most
)

Record = dict[str, Any]


class Proposals:
    """Settings to try, and their outcomes; all of it in a journal that `optuna-dashboard` opens.

    Args:
        journal: File of the journal; if it exists, the outcomes in it count.
        offered: Every setting there is.
        defaults: Settings that come first, one for each backend.
        seed: Random seed of the estimator.
        others: Settings that come with the defaults, the same backends in other precisions, each after the default of
            its backend and all before the estimator is asked.
    """

    def __init__(
        self,
        journal: Path,
        offered: Sequence[Setting],
        defaults: Sequence[Setting],
        seed: int,
        *,
        others: Sequence[Setting] = (),
    ) -> None:
        self.offered, self.defaults, self.others = list(offered), list(defaults), list(others)
        self._space = _space(self.offered)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(study_name=STUDY, storage=open_storage(None, journal), load_if_exists=True)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)  # its process was killed
        completed = self.study.get_trials(states=(TrialState.COMPLETE,))
        seed += len(self.study.trials)  # so that a resumed study does not repeat its own choices
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=max(10, len(self.defaults)), multivariate=True, group=True
            )
        # Most of what the estimator proposes was tried before. It is asked in memory, so that none of that is written.
        self._estimator = optuna.create_study(sampler=sampler)
        self._estimator.add_trials(completed)
        self._rng = np.random.default_rng(seed)

    @property
    def records(self) -> list[Record]:
        """The records of all finished trials, in their order; without trials that were broken off."""
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [dict(trial.user_attrs["record"]) for trial in done]

    def ask(
        self,
        fits: Callable[[Setting], bool] = lambda setting: True,
        cost: Callable[[Setting], float] = lambda setting: 0.0,
    ) -> tuple[Trial, Setting] | None:
        """The next setting; None if none is left that fits.

        Args:
            fits: Function that says whether there is time for a setting.
            cost: Function by which the first settings are sorted, the smallest first; those of the same cost in the
                order in which they were given.
        """
        tried = {Setting.from_json(record["setting"]) for record in self.records}
        left = [setting for setting in self.offered if setting not in tried and fits(setting)]
        if not left:
            return None
        self.study.enqueue_trial(_parameters(self._choose(left, tried, cost)))
        while True:
            trial = self.study.ask()
            setting = self._setting(trial)
            if setting in left:
                return trial, setting
            self.study.tell(trial, state=TrialState.FAIL)  # it waited since a process was killed, and was tried again

    def _choose(self, left: Sequence[Setting], tried: Collection[Setting], cost: Callable[[Setting], float]) -> Setting:
        """One of the settings that are left."""
        tried_backends = {setting.backend for setting in self.defaults if setting in tried}
        first = [setting for setting in self.defaults if setting in left]
        first += [setting for setting in self.others if setting in left and setting.backend in tried_backends]
        if first:
            return min(first, key=cost)
        proposed: Counter[str] = Counter()
        for _ in range(PATIENCE):
            trial = self._estimator.ask()
            setting = self._setting(trial)
            self._estimator.tell(trial, state=TrialState.FAIL)  # its outcome is added when the trial ends
            if setting in left:
                return setting
            proposed[setting.backend] += 1
        most = max(proposed[setting.backend] for setting in left)
        candidates = [setting for setting in left if proposed[setting.backend] == most]
        return candidates[int(self._rng.integers(len(candidates)))]

    def tell(self, trial: Trial, record: Record, value: float, violations: Mapping[str, float]) -> None:
        """Record the outcome of a setting.

        Args:
            trial: Trial that `ask` returned.
            record: JSON with `setting`.
            value: Value of the objective; smaller is better.
            violations: Violations by limit, the same limits for all settings; above 0 where a limit is not kept, and
                these settings rank behind all others.
        """
        trial.set_user_attr("record", record)
        for limit, violation in violations.items():
            trial.set_constraint(limit, violation)
        self._estimator.add_trial(self.study.tell(trial, value))

    def give_up(self, trial: Trial) -> None:
        """Record that a trial was broken off; its setting may be tried again."""
        self.study.tell(trial, state=TrialState.FAIL)

    def _setting(self, trial: Trial) -> Setting:
        backend = trial.suggest_categorical("backend", list(self._space))
        options = {
            name: trial.suggest_categorical(f"{backend} {name}", values)
            for name, values in self._space[backend].items()
        }
        precision, batch = options.pop("precision"), options.pop("batch")
        return Setting.of(backend, precision, options, batch)


def _space(offered: Sequence[Setting]) -> Mapping[str, dict[str, list[Any]]]:
    """The parameters of each backend, with all values that stand in a setting."""
    space: dict[str, dict[str, list[Any]]] = {}
    for setting in offered:
        parameters = space.setdefault(setting.backend, {})
        for name, value in setting.values().items():
            if value not in parameters.setdefault(name, []):
                parameters[name].append(value)
    return space


def _parameters(setting: Setting) -> dict[str, Any]:
    named = {f"{setting.backend} {name}": value for name, value in setting.values().items()}
    return {"backend": setting.backend, **named}
