"""The record of a study on an Optuna storage, which optuna-dashboard opens."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from nasbench.evaluators import Evaluated, Trial
from nasbench.experiment.experiment import Experiment
from nasbench.storage.optuna_storage import open_storage, patiently, together
from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)

METRIC_NAMES = "study:metric_names"  # where Optuna and its dashboard look for the names of objectives


@dataclass
class Candidate:
    """A candidate as the record knows it.

    Attributes:
        id: its number, from 0.
        arch: the architecture.
        epochs: the fidelity asked for; None is the full budget.
        status: running, or one of `OUTCOMES`.
        metrics: of a done one, or of one that was stopped early.
        scores: what the controller was told; None unless it was scored.
        seconds: its evaluation took, without earlier attempts.
        finished_s: when it finished, in seconds of search, pauses between resumes left out.
        error: why it is not done.
        training_seconds: of these were spent in training; what was trained before an interruption is included.
        curve: validation accuracy in percent by epoch, where it was validated.
        attempts: status, error and seconds of attempts that were followed by another one.
        cached: whether it was found in the shared cache and not trained.
        ending: of an infeasible one, the stage of its evaluation that ended it; None in runs of earlier versions.
        violation: of an infeasible one, how far it is beyond the limits; None if that is not known.
    """

    id: int
    arch: Architecture
    epochs: int | None
    status: str = "running"
    metrics: dict[str, float] = field(default_factory=dict)
    scores: tuple[float, ...] | None = None
    seconds: float = 0.0
    finished_s: float = 0.0
    error: str | None = None
    training_seconds: float = 0.0
    curve: dict[str, float] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    cached: bool = False
    ending: str | None = None
    violation: float | None = None


def comparable(candidates: Sequence[Candidate], full_epochs: int) -> list[Candidate]:
    """Those of the done candidates that were trained for the most epochs that any of them was.

    Args:
        candidates: of a study.
        full_epochs: of a candidate that was asked for without a number of epochs.
    """
    done = [candidate for candidate in candidates if candidate.status == "done"]
    most = max((candidate.epochs or full_epochs for candidate in done), default=0)
    return [candidate for candidate in done if (candidate.epochs or full_epochs) == most]


def search_seconds(candidates: Iterable[Candidate]) -> float:
    """Seconds of search until the last outcome, pauses between resumes left out; 0 before the first."""
    return max((candidate.finished_s for candidate in candidates), default=0.0)


def utilization(candidates: Collection[Candidate], workers: int) -> float | None:
    """Seconds of training in all workers together / (workers x seconds of search); None before the first outcome.

    What is in training now is not counted yet, and what was found in the shared cache was not trained.
    """
    wall = search_seconds(candidates)
    spent = sum(candidate.training_seconds for candidate in candidates if not candidate.cached)
    return spent / (workers * wall) if wall else None


class Record:
    """Every candidate of a study, on disk before anything else hears of it.

    In a storage that several runs share, the study has the name of the experiment and the id of the run in its name.

    Args:
        folder: of the run; its journal holds the record, unless the experiment names a storage.
        experiment: whose objectives become the values of an Optuna trial, with their directions.
        space: whose architectures are recorded.
        mend: repair what a killed process left; only for the holder of the run folder.
    """

    def __init__(self, folder: RunFolder, experiment: Experiment, space: SearchSpace, *, mend: bool = True) -> None:
        shared = experiment.storage is not None
        if mend and not shared:
            _mend(folder.journal)
        objectives = experiment.objectives
        name = f"{experiment.name}-{folder.run_id}" if shared else experiment.name
        self.space, self.objectives = space, objectives
        self._storage = open_storage(experiment.storage, folder.journal)
        directions = [StudyDirection.MAXIMIZE if each.goal == "max" else StudyDirection.MINIMIZE for each in objectives]
        self._ids: dict[int, int] = {}
        self.candidates: dict[int, Candidate] = {}
        studies = {each.study_name: each._study_id for each in self._storage.get_all_studies()}
        if name not in studies and not mend:
            return  # nothing was handed out yet, and a reader makes nothing
        self._study = studies[name] if name in studies else self._storage.create_new_study(directions, name)
        names = [each.metric for each in objectives]
        if mend and self._storage.get_study_system_attrs(self._study).get(METRIC_NAMES) != names:
            self._storage.set_study_system_attr(self._study, METRIC_NAMES, names)
        for trial in self._trials():
            self._ids[trial.number] = trial._trial_id
            self.candidates[trial.number] = _candidate(trial, space)
            if mend and "outcome" in trial.user_attrs and not trial.state.is_finished():
                self._close(trial._trial_id, trial.user_attrs["outcome"])

    def create(self, trial: Trial) -> None:
        """Write down that a candidate is running."""
        # Decisions that do not matter are no parameters of the trial, as in a conditional space of Optuna itself.
        params = {name: _category(option) for name, option in self.space.choices(trial.arch).items()}
        distributions: dict[str, BaseDistribution] = {
            decision.name: CategoricalDistribution([_category(option) for option in decision.options])
            for decision in self.space.decisions
            if decision.name in params
        }
        template = create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs={
                "architecture": self.space.format(trial.arch),
                "picks": list(trial.arch.picks),
                "asked_epochs": trial.epochs,  # beside the metric `epochs`, how many there were
            },
        )
        trial_id = patiently(lambda again: self._new_trial(trial.number, template, again))
        number = self._storage.get_trial_number_from_id(trial_id)
        if number != trial.number:
            raise UserError(
                f"candidate {trial.number} became number {number} in the record, so another process writes there, too; "
                f"let one process at a time work with a run and its storage."
            )
        self._ids[number] = trial_id
        self.candidates[number] = Candidate(number, trial.arch, trial.epochs)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Write down the validation accuracy that a running candidate has after an epoch."""
        curve = self.candidates[number].curve
        if curve.get(str(epoch)) != value:
            patiently(lambda again: self._storage.set_trial_intermediate_value(self._ids[number], epoch, value))
            curve[str(epoch)] = value

    def attempt(self, number: int, evaluated: Evaluated) -> None:
        """Write down an attempt that another one will follow."""
        attempts = self.candidates[number].attempts
        attempts.append({"status": evaluated.status, "error": evaluated.error, "seconds": evaluated.seconds})
        self._note(self._ids[number], "attempts", attempts)

    def finish(
        self, number: int, evaluated: Evaluated, scores: tuple[float, ...] | None, finished_s: float
    ) -> Candidate:
        """Write down what came of a candidate."""
        trial_id = self._ids[number]
        outcome = evaluated.to_json() | {"scores": list(scores) if scores else None, "finished_s": finished_s}
        with together(self._storage):
            for epoch, accuracy in evaluated.curve.items():
                self.report(number, int(epoch), accuracy)
            for name, value in evaluated.metrics.items():
                self._note(trial_id, name, value)
            self._note(trial_id, "outcome", outcome)
        # Now the candidate is finished; if the process dies before the next line, `_close` is called later.
        self._close(trial_id, outcome)
        candidate = self.candidates[number]
        _fill(candidate, outcome)
        return candidate

    def _close(self, trial_id: int, outcome: dict[str, Any]) -> None:
        """Give the trial the state and the values that belong to its outcome."""
        state = _STATES.get(outcome["status"], TrialState.FAIL)
        done = state == TrialState.COMPLETE
        values = [outcome["metrics"][objective.metric] for objective in self.objectives] if done else None

        def close(again: bool) -> None:
            if not (again and self._storage.get_trial(trial_id).state.is_finished()):
                self._storage.set_trial_state_values(trial_id, state, values)

        patiently(close)

    def _new_trial(self, number: int, template: FrozenTrial, again: bool) -> int:
        """The id of a new trial; it may be there already if the connection broke when it was made."""
        there = [trial._trial_id for trial in self._trials() if trial.number == number] if again else []
        return there[0] if there else self._storage.create_new_trial(self._study, template_trial=template)

    def _trials(self) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._study, deepcopy=False)

    def _note(self, trial_id: int, name: str, value: Any) -> None:
        patiently(lambda again: self._storage.set_trial_user_attr(trial_id, name, value))


_STATES = {"done": TrialState.COMPLETE, "stopped": TrialState.PRUNED}


def _candidate(trial: optuna.trial.FrozenTrial, space: SearchSpace) -> Candidate:
    attributes = trial.user_attrs
    candidate = Candidate(
        trial.number,
        space.architecture(attributes["picks"]),
        attributes["asked_epochs"],
        curve={str(epoch): value for epoch, value in trial.intermediate_values.items()},
        attempts=list(attributes.get("attempts", ())),
    )
    if "outcome" in attributes:
        _fill(candidate, attributes["outcome"])
    return candidate


def _fill(candidate: Candidate, outcome: dict[str, Any]) -> None:
    candidate.status = outcome["status"]
    candidate.metrics = dict(outcome["metrics"])
    candidate.scores = tuple(outcome["scores"]) if outcome["scores"] else None
    candidate.seconds = outcome["seconds"]
    candidate.finished_s = outcome["finished_s"]
    candidate.error = outcome["error"]
    candidate.training_seconds = outcome.get("training_seconds", 0.0)  # absent in runs of earlier versions
    candidate.cached = outcome.get("cached", False)
    candidate.ending = outcome.get("ending")
    candidate.violation = outcome.get("violation")


def _category(option: Any) -> str | int | float | bool | None:
    """An option as Optuna's categories allow it: lists and objects as text."""
    return option if isinstance(option, str | int | float | bool | None) else str(option)


def _mend(path: Path) -> None:
    """Undo what a process that was killed in the middle of a write leaves: half a line, and the lock of the file.

    Only the holder of the run folder calls this, so no other process is writing.
    """
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    if path.exists():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)
