"""The record of a study on an Optuna storage, which optuna-dashboard opens."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from controllers.quiet import quiet_optuna
from nasbench.evaluators.trial import Evaluated, Trial
from nasbench.objectives.objective import Objective
from nasbench.storage.optuna_storage import open_storage, patiently, together
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

METRIC_NAMES = "study:metric_names"  # where Optuna and its dashboard look for the names of objectives

Parts = Callable[[Architecture], Mapping[str, Any]]
"""The network and the recipe of an architecture by themselves: {"network": notation, "recipe": entries or None}."""


@dataclass
class RecordedCandidate:
    """A candidate as the record knows it; to read it takes no search space.

    Attributes:
        id: its number, from 0.
        arch: the architecture.
        epochs: the fidelity asked for; None is the full budget.
        architecture: it in the notation of its space.
        choices: of each decision that matters, its option; objects and lists as text.
        network: the notation of the network alone, where a recipe belongs to the architecture.
        recipe: the entries of that recipe; None where it is the same for all candidates.
        status: running, or one of `OUTCOMES`.
        metrics: of a done one, or of one that was stopped early.
        scores: what the controller was told; None unless it was scored.
        seconds: its evaluation took, without earlier attempts.
        finished_s: when it finished, in seconds of search, pauses between resumes left out.
        error: why it is not done.
        training_seconds: of these were spent in training; what was trained before an interruption is included.
        curve: the metric that a candidate is compared by while it is trained, by epoch, where it was reported.
        attempts: status, error and seconds of attempts that were followed by another one.
        cached: whether it was found in the shared cache and not trained.
        ending: of an infeasible one, the stage of its evaluation that ended it.
        violation: of an infeasible one, how far it is beyond the limits; None if that is not known.
    """

    id: int
    arch: Architecture
    epochs: int | None
    architecture: str = ""
    choices: Mapping[str, Any] = field(default_factory=dict)
    network: str = ""
    recipe: list[Any] | None = None
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


def describe(candidate: RecordedCandidate) -> dict[str, Any]:
    """A candidate in JSON values; its decisions are left out, which its notation tells."""
    known = {name: value for name, value in vars(candidate).items() if name not in ("arch", "choices")}
    return known | {
        "scores": list(candidate.scores) if candidate.scores else None,
        "curve": {epoch: round(candidate.curve[epoch], 3) for epoch in sorted(candidate.curve, key=int)},
    }


def comparable(candidates: Sequence[RecordedCandidate], full_epochs: int) -> list[RecordedCandidate]:
    """Those of the done candidates that were trained for the most epochs that any of them was.

    Args:
        candidates: of a study.
        full_epochs: of a candidate that was asked for without a number of epochs.
    """
    done = [candidate for candidate in candidates if candidate.status == "done"]
    most = max((candidate.epochs or full_epochs for candidate in done), default=0)
    return [candidate for candidate in done if (candidate.epochs or full_epochs) == most]


def search_seconds(candidates: Iterable[RecordedCandidate]) -> float:
    """Seconds of search until the last outcome, pauses between resumes left out; 0 before the first."""
    return max((candidate.finished_s for candidate in candidates), default=0.0)


def utilization(candidates: Collection[RecordedCandidate], workers: int) -> float | None:
    """Seconds of training in all workers together / (workers x seconds of search); None before the first outcome.

    What is in training now is not counted yet, and what was found in the shared cache was not trained.
    """
    wall = search_seconds(candidates)
    spent = sum(candidate.training_seconds for candidate in candidates if not candidate.cached)
    return spent / (workers * wall) if wall else None


class Record:
    """Every candidate of a study, on disk before anything else hears of it.

    Args:
        journal: the file that holds the record, unless a storage does.
        space: whose architectures are recorded; None reads a record that is there.
        objectives: become the values of an Optuna trial, with their directions.
        name: of the study; in a storage that several runs share, no other run may have it.
        storage: URL of an Optuna storage in place of the journal.
        parts: gives network and recipe of an architecture; None where all candidates have one recipe.
        mend: repair what a killed process left; only for the holder of the run folder.
    """

    def __init__(
        self,
        journal: Path,
        space: SearchSpace | None,
        objectives: Sequence[Objective],
        *,
        name: str,
        storage: str | None = None,
        parts: Parts | None = None,
        mend: bool = True,
    ) -> None:
        if mend and storage is None:
            _mend(journal)
        self._space, self.objectives = space, objectives
        self._parts = parts
        self._ids: dict[int, int] = {}
        self.candidates: dict[int, RecordedCandidate] = {}
        try:
            self._storage = open_storage(storage, journal)
            self._read(name, mend=mend)
        except UserError:
            raise
        except (AssertionError, LookupError, TypeError, ValueError) as error:
            if storage is not None:
                raise
            raise _damaged(journal, error) from None

    def _read(self, name: str, *, mend: bool) -> None:
        """Take up what the storage knows of a study, or begin one there."""
        objectives = self.objectives
        directions = [
            StudyDirection.MAXIMIZE if objective.goal == "max" else StudyDirection.MINIMIZE for objective in objectives
        ]
        studies = {each.study_name: each._study_id for each in self._storage.get_all_studies()}
        if name not in studies and not mend:
            return  # nothing was handed out yet, and a reader makes nothing
        with quiet_optuna():
            self._study = studies[name] if name in studies else self._storage.create_new_study(directions, name)
        names = [each.metric for each in objectives]
        if mend and self._storage.get_study_system_attrs(self._study).get(METRIC_NAMES) != names:
            self._storage.set_study_system_attr(self._study, METRIC_NAMES, names)
        for trial in self._trials():
            self._ids[trial.number] = trial._trial_id
            self.candidates[trial.number] = _candidate(trial)
            if mend and "outcome" in trial.user_attrs and not trial.state.is_finished():
                self._close(trial._trial_id, trial.user_attrs["outcome"])

    @property
    def space(self) -> SearchSpace:
        """What is searched; a record that was opened to be read knows none."""
        if self._space is None:
            raise RuntimeError("this record was opened without its search space, to be read only")
        return self._space

    def create(self, trial: Trial) -> None:
        """Write down that a candidate is running."""
        # Decisions that do not matter are no parameters of the trial, as in a conditional space of Optuna itself.
        space = self.space
        architecture = space.format(trial.arch)
        parts: dict[str, Any] = {"network": architecture, "recipe": None}
        if self._parts is not None:
            parts |= self._parts(trial.arch)
        params = {name: _category(option) for name, option in space.choices(trial.arch).items()}
        distributions: dict[str, BaseDistribution] = {
            decision.name: CategoricalDistribution([_category(option) for option in decision.options])
            for decision in space.decisions
            if decision.name in params
        }
        template = create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs={
                "architecture": architecture,
                "space": trial.arch.space,
                "picks": list(trial.arch.picks),
                **parts,
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
        self.candidates[number] = RecordedCandidate(
            number, trial.arch, trial.epochs, architecture, params, parts["network"], parts["recipe"]
        )

    def report(self, number: int, epoch: int, value: float) -> None:
        """Write down what a running candidate is worth after an epoch."""
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
    ) -> RecordedCandidate:
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
        fill(candidate, outcome)
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


def _candidate(trial: optuna.trial.FrozenTrial) -> RecordedCandidate:
    attributes = trial.user_attrs
    candidate = RecordedCandidate(
        trial.number,
        Architecture(attributes["space"], tuple(attributes["picks"])),
        attributes["asked_epochs"],
        attributes["architecture"],
        dict(trial.params),
        attributes["network"],
        attributes["recipe"],
        curve={str(epoch): value for epoch, value in trial.intermediate_values.items()},
        attempts=list(attributes.get("attempts", ())),
    )
    if "outcome" in attributes:
        fill(candidate, attributes["outcome"])
    return candidate


def fill(candidate: RecordedCandidate, outcome: Mapping[str, Any]) -> None:
    """Set what is known of a candidate that ended."""
    for name in ("status", "seconds", "finished_s", "error", "training_seconds", "cached", "ending", "violation"):
        setattr(candidate, name, outcome[name])
    candidate.metrics = dict(outcome["metrics"])
    candidate.scores = tuple(outcome["scores"]) if outcome["scores"] else None


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
        while whole and not _is_entry(data[data.rfind(b"\n", 0, whole - 1) + 1 : whole]):
            whole = data.rfind(b"\n", 0, whole - 1) + 1  # a machine that lost its power leaves zeros
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)


def _is_entry(line: bytes) -> bool:
    """Whether a line of a journal is one."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _damaged(journal: Path, error: Exception) -> UserError:
    """The error for a journal that cannot be replayed, with the first line that is no entry."""
    lines = journal.read_bytes().splitlines()
    broken = next((number for number, line in enumerate(lines, start=1) if not _is_entry(line)), None)
    where = f"line {broken} of {len(lines)} is no entry" if broken else f"{type(error).__name__}: {error}"
    return UserError(
        f"the record {journal} is damaged ({where}); restore it from a copy, or start another run: shared caches still "
        f"know what was trained."
    )
