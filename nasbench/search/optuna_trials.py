"""The candidates of a search as trials of Optuna, which optuna-dashboard shows."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.storages import BaseStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from controllers.quiet import quiet_optuna
from nasbench.objectives.objective import Objective
from nasbench.search.record import Choices, RecordedCandidate, Table, fill
from nasbench.storage.files import of_file
from nasbench.storage.optuna_storage import open_storage, patiently
from nasbench_registry import UserError
from search_spaces import Architecture

METRIC_NAMES = "study:metric_names"  # where Optuna and its dashboard look for the names of objectives
STATES = {"done": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "running": TrialState.RUNNING}
CREATE, STATE, VALUE, ATTRIBUTE, STUDY_ATTRIBUTE = 4, 6, 7, 8, 3  # operations of a journal of Optuna
OPERATION = re.compile(rb'\{"op_code": ?(\d+),')
TRIAL_STATE = re.compile(rb'"state": ?(\d)')


class Trials(ABC):
    """Trials of one study, numbered as its candidates are.

    Attributes:
        created: Number of trials.
        open: Numbers of the trials that are not finished.
    """

    created: int
    open: set[int]

    def __init__(self, table: Table, objectives: Sequence[Objective]) -> None:
        self.table, self.objectives = table, objectives

    @abstractmethod
    def create(self, candidate: RecordedCandidate) -> None:
        """Make the trial of the next candidate, with all that is known of it."""

    @abstractmethod
    def note(self, number: int, name: str, value: Any) -> None:
        """Set an attribute of a trial."""

    @abstractmethod
    def report(self, number: int, epoch: int, value: float) -> None:
        """Set an intermediate value of a trial."""

    @abstractmethod
    def end(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        """Give a trial its last state."""

    def flush(self) -> None:  # noqa: B027  # a database has it already
        """Write what was collected."""

    def finish(self, candidate: RecordedCandidate) -> None:
        """Complete the trial of a candidate that ended."""
        for epoch, value in candidate.curve.items():
            self.report(candidate.id, int(epoch), value)
        for name, value in ended_attributes(candidate).items():
            self.note(candidate.id, name, value)
        self.end(candidate.id, state_of(candidate), self.values(candidate))
        self.open.discard(candidate.id)

    def values(self, candidate: RecordedCandidate) -> list[float] | None:
        """The values of the objectives of a done candidate."""
        if candidate.status != "done":
            return None
        return [candidate.metrics[objective.metric] for objective in self.objectives]

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The distribution of each decision."""
        return {
            name: CategoricalDistribution(options)
            for name, options in zip(self.table.names, self.table.options, strict=True)
        }


class JournalTrials(Trials):
    """Trials in a journal file, in the operations of Optuna's own journal storage, of which Optuna reads them.

    They are collected until `flush`, and nothing is kept of them in memory, as that storage would.

    Args:
        journal: Journal file; created if it is not there.
        table: Decisions of the space.
        objectives: Objectives of the search.
        name: Name of the study.
    """

    def __init__(self, journal: Path, table: Table, objectives: Sequence[Objective], name: str) -> None:
        super().__init__(table, objectives)
        self.path = journal
        self.created, self.open, named = _scan(journal)
        if not named:
            _begin_study(open_storage(None, journal), objectives, name)
        with of_file(journal):
            self._file = JournalFileBackend(str(journal))
        self._held: list[dict[str, Any]] = []
        self._texts = {name: distribution_to_json(distribution) for name, distribution in self.distributions.items()}

    def create(self, candidate: RecordedCandidate) -> None:
        """Make the trial of the next candidate, with all that is known of it."""
        now, values = _now(), self.values(candidate)
        choices = candidate.choices
        state = state_of(candidate)
        entry = {
            "study_id": 0,
            "datetime_start": now,
            "state": int(state),
            "value": values[0] if values is not None and len(values) == 1 else None,
            "values": values if values is not None and len(values) > 1 else None,
            "distributions": {name: self._texts[name] for name in choices},
            "params": {name: self._pick(name, choices) for name in choices},
            "user_attrs": attributes(candidate) | ended_attributes(candidate),
            "system_attrs": {},
            "intermediate_values": candidate.curve,
        }
        if state.is_finished():
            entry["datetime_complete"] = now
        else:
            self.open.add(candidate.id)
        self._add(CREATE, entry)
        self.created += 1

    def note(self, number: int, name: str, value: Any) -> None:
        """Set an attribute of a trial."""
        self._add(ATTRIBUTE, {"trial_id": number, "user_attr": {name: value}})

    def report(self, number: int, epoch: int, value: float) -> None:
        """Set an intermediate value of a trial."""
        self._add(VALUE, {"trial_id": number, "step": epoch, "intermediate_value": value})

    def end(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        """Give a trial its last state."""
        self._add(STATE, {"trial_id": number, "state": int(state), "values": values, "datetime_complete": _now()})

    def flush(self) -> None:
        """Write what was collected."""
        if self._held:
            with of_file(self.path):
                patiently(lambda again: self._file.append_logs(self._held))
            self._held = []

    def _pick(self, name: str, choices: Mapping[str, Any]) -> float:
        """The value that Optuna writes for an option: its position."""
        if isinstance(choices, Choices):
            return float(choices.picks[choices.table.positions[name]])
        return self.distributions[name].to_internal_repr(choices[name])

    def _add(self, operation: int, entry: Mapping[str, Any]) -> None:
        self._held.append({"op_code": operation, "worker_id": "nasbench", **entry})


class DatabaseTrials(Trials):
    """Trials in a database, which several runs share.

    Args:
        storage: URL of the database.
        table: Decisions of the space.
        objectives: Objectives of the search.
        name: Name of the study; no other run may have it.
    """

    def __init__(self, storage: str, table: Table, objectives: Sequence[Objective], name: str) -> None:
        super().__init__(table, objectives)
        self._storage = open_storage(storage, Path())
        study = find_study(self._storage, name)
        self._study = _begin_study(self._storage, objectives, name) if study is None else study
        self._ids = {trial.number: trial._trial_id for trial in self._trials()}
        self.created = len(self._ids)
        self.open = {trial.number for trial in self._trials() if not trial.state.is_finished()}

    def create(self, candidate: RecordedCandidate) -> None:
        """Make the trial of the next candidate, with all that is known of it."""
        params, values = dict(candidate.choices), self.values(candidate)
        template = create_trial(
            state=state_of(candidate),
            values=values,
            params=params,
            distributions={name: self.distributions[name] for name in params},
            user_attrs=attributes(candidate) | ended_attributes(candidate),
            intermediate_values={int(epoch): value for epoch, value in candidate.curve.items()},
        )
        identity = patiently(lambda again: self._new(candidate.id, template, again))
        number = self._storage.get_trial_number_from_id(identity)
        if number != candidate.id:
            raise UserError(
                f"candidate {candidate.id} became number {number} in the storage, so another process writes there, "
                f"too; let one process at a time work with a run and its storage."
            )
        self._ids[number] = identity
        self.created += 1
        if candidate.status == "running":
            self.open.add(number)

    def note(self, number: int, name: str, value: Any) -> None:
        """Set an attribute of a trial."""
        patiently(lambda again: self._storage.set_trial_user_attr(self._ids[number], name, value))

    def report(self, number: int, epoch: int, value: float) -> None:
        """Set an intermediate value of a trial."""
        patiently(lambda again: self._storage.set_trial_intermediate_value(self._ids[number], epoch, value))

    def end(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        """Give a trial its last state."""

        def close(again: bool) -> None:
            if not (again and self._storage.get_trial(self._ids[number]).state.is_finished()):
                self._storage.set_trial_state_values(self._ids[number], state, values)

        patiently(close)

    def _new(self, number: int, template: FrozenTrial, again: bool) -> int:
        """The id of a new trial; it may be there already if the connection broke when it was made."""
        ids = [trial._trial_id for trial in self._trials() if trial.number == number] if again else []
        return ids[0] if ids else self._storage.create_new_trial(self._study, template_trial=template)

    def _trials(self) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._study, deepcopy=False)


def open_trials(storage: str | None, journal: Path, table: Table, objectives: Sequence[Objective], name: str) -> Trials:
    """The trials of a study, which is begun if it is not there.

    Args:
        storage: URL of a database; None is the journal.
        journal: Journal file.
        table: Decisions of the space.
        objectives: Objectives of the search.
        name: Name of the study.
    """
    if storage is None:
        return JournalTrials(journal, table, objectives, name)
    return DatabaseTrials(storage, table, objectives, name)


def read_trials(storage: str | None, journal: Path, name: str) -> list[RecordedCandidate]:
    """The candidates in the trials of a study, of a run of an earlier version or one whose record is lost.

    Raises:
        UserError: The database does not answer.
        AssertionError, LookupError, TypeError, ValueError: A journal cannot be replayed.
    """
    opened = open_storage(storage, journal)
    study = find_study(opened, name)
    return [] if study is None else [_candidate(trial) for trial in opened.get_all_trials(study, deepcopy=False)]


def find_study(storage: BaseStorage, name: str) -> int | None:
    """The id of a study by its name; None if there is none."""
    return next((study._study_id for study in storage.get_all_studies() if study.study_name == name), None)


def state_of(candidate: RecordedCandidate) -> TrialState:
    """The state of Optuna that says most of how a candidate is."""
    return STATES.get(candidate.status, TrialState.FAIL)


def attributes(candidate: RecordedCandidate) -> dict[str, Any]:
    """The attributes of a candidate that are known when it begins."""
    entries = {
        "architecture": candidate.architecture,
        "space": candidate.arch.space,
        "picks": list(candidate.arch.picks),
        "network": candidate.network,
        "recipe": candidate.recipe,
        "asked_epochs": candidate.epochs,  # beside the metric `epochs`, how many there were
    }
    return entries | ({"attempts": candidate.attempts} if candidate.attempts else {})


def ended_attributes(candidate: RecordedCandidate) -> dict[str, Any]:
    """The attributes of a candidate that are known when it has ended; none while it is running."""
    if candidate.status == "running":
        return {}
    outcome = {
        name: getattr(candidate, name)
        for name in (
            "status",
            "metrics",
            "error",
            "seconds",
            "training_seconds",
            "curve",
            "cached",
            "ending",
            "violation",
            "finished_s",
        )
    }
    scores = None if candidate.scores is None else list(candidate.scores)
    return candidate.metrics | {"outcome": outcome | {"scores": scores}}


def _begin_study(storage: BaseStorage, objectives: Sequence[Objective], name: str) -> int:
    directions = [
        StudyDirection.MAXIMIZE if objective.goal == "max" else StudyDirection.MINIMIZE for objective in objectives
    ]
    with quiet_optuna():
        study = storage.create_new_study(directions, name)
    storage.set_study_system_attr(study, METRIC_NAMES, [objective.metric for objective in objectives])
    return study


def _scan(journal: Path) -> tuple[int, set[int], bool]:
    """How many trials a journal has, the numbers of those that are not finished, and whether it has a named study."""
    created, named = 0, False
    running: set[int] = set()
    if not journal.exists():
        return created, running, named
    with of_file(journal), journal.open("rb") as file:
        for line in file:
            match = OPERATION.match(line)
            operation = int(match.group(1)) if match else -1
            if operation == CREATE:
                state = TRIAL_STATE.search(line)
                if state is not None and not TrialState(int(state.group(1))).is_finished():
                    running.add(created)
                created += 1
            elif operation == STATE:
                entry = json.loads(line)
                if TrialState(entry["state"]).is_finished():
                    running.discard(entry["trial_id"])
            elif operation == STUDY_ATTRIBUTE:
                named = named or METRIC_NAMES in json.loads(line)["system_attr"]
    return created, running, named


def _candidate(trial: FrozenTrial) -> RecordedCandidate:
    user_attributes = trial.user_attrs
    candidate = RecordedCandidate(
        trial.number,
        Architecture(user_attributes["space"], tuple(user_attributes["picks"])),
        user_attributes["asked_epochs"],
        user_attributes["architecture"],
        dict(trial.params),
        user_attributes["network"],
        user_attributes["recipe"],
        curve={str(epoch): value for epoch, value in trial.intermediate_values.items()},
        attempts=list(user_attributes.get("attempts", ())),
    )
    if "outcome" in user_attributes:
        fill(candidate, user_attributes["outcome"])
    return candidate


def _now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="microseconds")
