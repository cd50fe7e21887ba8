"""The record of a study: a file that is appended to, and beside it the trials that optuna-dashboard shows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasbench.evaluators.trial import Evaluated, Trial
from nasbench.objectives.objective import Objective
from nasbench.search.record import OUTCOME_DEFAULTS, Choices, RecordedCandidate, Table, fill
from nasbench.storage.files import written_aside
from nasbench.storage.line_file import TOGETHER_S, LineFile, mend, read_lines
from nasbench.storage.pace import Pace
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

if TYPE_CHECKING:
    from nasbench.search.optuna_trials import Trials

RECORD = "record.jsonl"
SLOW_S = 1.0
"""A candidate that was evaluated for longer is on the disk before anything else gets its outcome."""
BURST, CHEAP_BURST = 50, 4  # changes in a row that Optuna gets at once, of slow and of cheap candidates; then in blocks

Parts = Callable[[Architecture], Mapping[str, Any]]
"""The network and the recipe of an architecture by themselves: {"network": notation, "recipe": entries or None}."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a controller has seen: it was asked for a proposal, or got an outcome.

    Attributes:
        number: Number of the candidate that is new, or has ended; None if the proposals led to none.
        asks: Proposals until then; None for an outcome, 0 where it is not known how the candidate came to be.
        block: Whether the proposals belong to the same block as those before them.
    """

    number: int | None
    asks: int | None = None
    block: bool = False


class DiskRecord:
    """Every candidate of a study, in a file to which a line is added for whatever happens.

    A line is with the system when a method returns, so that no killed process loses it. It is on the disk too, if the
    last evaluation took longer than `SLOW_S`; those of cheaper ones follow within `TOGETHER_S`, so that a machine that
    loses its power has no more than these to evaluate again.

    A person reads the same in the trials of an Optuna storage. They get each change at once, or in blocks where
    changes come faster than that; what is held back comes with the next change that is not.

    Args:
        journal: File of the trials, unless a storage holds them; the record lies beside it.
        space: Search space whose architectures are recorded; None reads a record that is there.
        objectives: Objectives of the search; they become the values of an Optuna trial, with their directions.
        name: Name of the study; in a storage that several runs share, no other run may have it.
        storage: URL of an Optuna storage in place of the journal.
        parts: Function that splits an architecture into network and recipe; None where all candidates have one recipe.
        mend: Whether to repair what a killed process left; only for the holder of the run folder.
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
        self.path, self._journal = journal.with_name(RECORD), journal
        self._space, self.objectives = space, objectives
        self._name, self._storage, self._parts = name, storage, parts
        self.candidates: dict[int, RecordedCandidate] = {}
        self.identity = ""
        """The identity of this file: a controller's state that belongs to another file says nothing of its lines."""
        self.lines = 0
        self._events: list[Event | None] = []  # by line, until they are taken
        self._table, self._of = Table(), ""  # the decisions and the name of the space
        if mend:
            self._mend()
        if self._is_there():
            self._read()
        else:
            self._take_over(write=mend)
        self._slow = True  # until an evaluation shows that it is not
        self._pace, self._cheap_pace = Pace(BURST, TOGETHER_S), Pace(CHEAP_BURST, TOGETHER_S)
        self._changed: dict[int, None] = {}  # candidates of which Optuna has not heard yet
        if mend:
            self._file = LineFile(self.path)
            self._trials = self._open_trials()

    @property
    def space(self) -> SearchSpace:
        """The search space; a record that was opened to be read knows none."""
        if self._space is None:
            raise RuntimeError("this record was opened without its search space, to be read only")
        return self._space

    # ---- what a study writes

    def create(self, trial: Trial, asks: int = 1, *, block: bool = False) -> None:
        """Write down that a candidate is running.

        Args:
            trial: The candidate.
            asks: Proposals since the event before this one, its own included.
            block: Whether the proposals belong to the same block as those before them.
        """
        architecture = self.space.format(trial.arch)
        parts: dict[str, Any] = {"network": architecture, "recipe": None}
        if self._parts is not None:
            parts |= self._parts(trial.arch)
        idle = _idle(self.space, trial.arch)
        candidate = RecordedCandidate(
            trial.number,
            trial.arch,
            trial.epochs,
            architecture,
            Choices(self._table, trial.arch.picks, idle),
            architecture if parts["network"] == architecture else parts["network"],
            parts["recipe"],
        )
        self._append(begun_entry(candidate) | {"asks": asks} | ({"block": True} if block else {}), now=self._slow)
        self.candidates[trial.number] = candidate
        self._change(trial.number)

    def waited(self, asks: int, *, block: bool = False) -> None:
        """Write down that so many proposals led to no new candidate, the last of them perhaps to none at all."""
        self._append({"asks": asks} | ({"block": True} if block else {}), now=self._slow)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Write down what a running candidate is worth after an epoch."""
        curve = self.candidates[number].curve
        if curve.get(str(epoch)) != value:
            self._append({"candidate": number, "epoch": epoch, "value": value}, now=self._slow)
            curve[str(epoch)] = value
            self._change(number)

    def attempt(self, number: int, evaluated: Evaluated) -> None:
        """Write down an attempt that another one will follow."""
        attempt = {"status": evaluated.status, "error": evaluated.error, "seconds": evaluated.seconds}
        self._append({"candidate": number, "attempt": attempt}, now=_is_slow(evaluated))
        self.candidates[number].attempts.append(attempt)
        self._change(number)

    def finish(
        self, number: int, evaluated: Evaluated, scores: tuple[float, ...] | None, finished_s: float
    ) -> RecordedCandidate:
        """Write down what came of a candidate."""
        outcome = vars(evaluated) | {"scores": scores, "finished_s": finished_s}
        self._slow = _is_slow(evaluated)
        self._append({"candidate": number, "outcome": outcome_entry(outcome)}, now=self._slow)
        candidate = self.candidates[number]
        fill(candidate, outcome)
        self._change(number)
        return candidate

    def commit(self) -> None:
        """Wait until all that was written is on the disk."""
        self._file.sync()

    def flush(self) -> None:
        """Give Optuna all changes, and wait until all is on the disk."""
        self._file.sync()  # first, so that the trials are never ahead of the record
        self._feed()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    def events(self, lines: int) -> Iterator[Event]:
        """The events after so many lines; only once, for they are not kept in memory any longer."""
        events, self._events = self._events[lines:], []
        return (event for event in events if event is not None)

    # ---- changes for Optuna

    def _change(self, number: int) -> None:
        self._changed[number] = None
        if (self._pace if self._slow else self._cheap_pace).allows():
            self.flush()

    def _feed(self) -> None:
        trials, changed = self._trials, self._changed
        try:
            for number in range(trials.created, len(self.candidates)):
                changed.pop(number, None)
                if self.candidates[number].status == "running":
                    trials.create(self.candidates[number])
                else:
                    self._close(number)
            for number in changed:
                candidate = self.candidates[number]
                if candidate.status != "running":
                    self._close(number)
                    continue
                for epoch, value in candidate.curve.items():
                    trials.report(number, int(epoch), value)
                if candidate.attempts:
                    trials.note(number, "attempts", candidate.attempts)
            changed.clear()
        finally:
            trials.flush()

    def _close(self, number: int) -> None:
        """Give the trial of a candidate that ended its last state, and all that is known of it."""
        if number >= self._trials.created:
            self._trials.create(self.candidates[number])
        elif number in self._trials.open:
            self._trials.finish(self.candidates[number])

    def _open_trials(self) -> Trials:
        from nasbench.search.optuna_trials import open_trials

        def opened() -> Trials:
            return open_trials(self._storage, self._journal, self._table, self.objectives, self._name)

        trials = opened()
        if trials.created > len(self.candidates) and self._storage is None:  # the record is that of an older backup
            self._journal.unlink()
            trials = opened()
        ended = [number for number in sorted(trials.open) if self.candidates[number].status != "running"]
        self._changed.update(dict.fromkeys(ended))
        return trials

    # ---- what is there already

    def _append(self, entry: Mapping[str, Any], *, now: bool) -> None:
        self._file.append(entry, now=now)
        self.lines += 1

    def _is_there(self) -> bool:
        return self.path.exists() and (not self.path.is_file() or self.path.stat().st_size > 0)

    def _mend(self) -> None:
        """Undo what a process that was killed in the middle of a write leaves."""
        mend(self.path)
        if self._storage is None:
            self._journal.with_name(self._journal.name + ".lock").unlink(missing_ok=True)
            mend(self._journal)

    def _read(self) -> None:
        try:
            for _, entry in read_lines(self.path):
                self._events.append(self._take(entry))
        except ValueError as error:
            where = f"line {error.args[1]}" if len(error.args) > 1 else str(error)
            raise self._damaged(f"{where} is no entry") from None
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            where = f"line {len(self._events) + 1}: {type(error).__name__}: {error}"
            raise self._damaged(f"{where}") from None
        self.lines = len(self._events)

    def _take(self, entry: Mapping[str, Any]) -> Event | None:
        """Take up a line; the event for the controller that it tells of, if it does."""
        if "outcome" in entry:
            fill(self.candidates[entry["candidate"]], entry["outcome"])
            return Event(entry["candidate"])
        if "picks" in entry:
            number = entry["candidate"]
            if number != len(self.candidates):
                raise KeyError(f"candidate {number} comes after {len(self.candidates)} others")
            self.candidates[number] = candidate_of(entry, self._table, self._of)
            return Event(number, entry["asks"], entry.get("block", False))
        if "asks" in entry:
            return Event(None, entry["asks"], entry.get("block", False))
        if "attempt" in entry:
            self.candidates[entry["candidate"]].attempts.append(entry["attempt"])
        elif "value" in entry:
            self.candidates[entry["candidate"]].curve[str(entry["epoch"])] = entry["value"]
        else:
            self.identity, self._of = entry["record"], entry["space"]
            self._table = table_of(entry)
        return None

    def _take_over(self, *, write: bool) -> None:
        """Begin a record, with the candidates of a run of an earlier version or of one whose record is lost."""
        earlier: list[RecordedCandidate] = []
        if self._storage is not None or self._journal.exists():
            from nasbench.search.optuna_trials import read_trials

            try:
                earlier = read_trials(self._storage, self._journal, self._name)
            except UserError:
                raise
            except (AssertionError, LookupError, TypeError, ValueError) as error:
                if self._storage is not None:
                    raise
                raise _damaged_journal(self._journal, error) from None
        if not write:
            self.candidates = {candidate.id: candidate for candidate in earlier}
            return
        decisions = {
            decision.name: [_category(option) for option in decision.options] for decision in self.space.decisions
        }
        entries: list[Mapping[str, Any]] = [
            {"record": uuid.uuid4().hex, "space": self.space.name, "decisions": decisions, "study": self._name}
        ]
        table = table_of(entries[0])
        for candidate in earlier:
            # The proposals of the controller are not known: it gets the outcomes of these candidates alone.
            candidate.choices = Choices(table, candidate.arch.picks, _idle(self.space, candidate.arch))
            entries.append(begun_entry(candidate) | {"asks": 0})
            entries += [{"candidate": candidate.id, "attempt": attempt} for attempt in candidate.attempts]
            if candidate.status != "running":
                outcome = {
                    name: getattr(candidate, name)
                    for name in ("status", "metrics", "scores", "curve", *OUTCOME_DEFAULTS)
                }
                entries.append({"candidate": candidate.id, "outcome": outcome_entry(outcome)})
            else:
                entries += [
                    {"candidate": candidate.id, "epoch": int(epoch), "value": value}
                    for epoch, value in candidate.curve.items()
                ]
        with written_aside(self.path) as aside:
            file = LineFile(aside)
            for entry in entries:
                file.append(entry, now=False)
            file.close()
        self._events = [self._take(entry) for entry in entries]
        self.lines = len(entries)

    def _damaged(self, why: str) -> UserError:
        return UserError(
            f"the record {self.path} is damaged ({why}); restore it from a copy, or delete it: the run then goes on "
            f"with what {self._storage or self._journal.name} tells of it."
        )


def table_of(entry: Mapping[str, Any]) -> Table:
    """The decisions of the space, of which the first line of a record tells."""
    return Table(tuple(entry["decisions"]), tuple(map(tuple, entry["decisions"].values())))


def candidate_of(entry: Mapping[str, Any], table: Table, space: str) -> RecordedCandidate:
    """A running candidate, of which its first line tells.

    Args:
        entry: First line of the candidate.
        table: Decisions of the space.
        space: Name of the space.
    """
    picks, architecture = tuple(entry["picks"]), entry["architecture"]
    return RecordedCandidate(
        entry["candidate"],
        Architecture(space, picks),
        entry.get("epochs"),
        architecture,
        Choices(table, picks, entry.get("idle", ())),
        entry.get("network", architecture),
        entry.get("recipe"),
        curve=dict(entry.get("curve", ())),
        attempts=list(entry.get("attempts", ())),
    )


def begun_entry(candidate: RecordedCandidate) -> dict[str, Any]:
    """The line of a new candidate; what is as usual is left out."""
    entry: dict[str, Any] = {
        "candidate": candidate.id,
        "picks": candidate.arch.picks,
        "architecture": candidate.architecture,
    }
    if candidate.epochs is not None:
        entry["epochs"] = candidate.epochs
    if isinstance(candidate.choices, Choices) and candidate.choices.idle:
        entry["idle"] = candidate.choices.idle
    if candidate.network != candidate.architecture:
        entry["network"] = candidate.network
    if candidate.recipe is not None:
        entry["recipe"] = candidate.recipe
    return entry


def outcome_entry(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """An outcome in JSON values; what is as usual is left out."""
    entry = {name: outcome[name] for name, otherwise in OUTCOME_DEFAULTS.items() if outcome[name] != otherwise}
    entry |= {name: outcome[name] for name in ("metrics", "scores", "curve") if outcome[name]}
    return {"status": outcome["status"]} | entry


def _is_slow(evaluated: Evaluated) -> bool:
    """Whether somebody waited long for an outcome; nobody waited for a simulated training."""
    return evaluated.seconds > SLOW_S and not evaluated.simulated_s


def _idle(space: SearchSpace, arch: Architecture) -> list[int]:
    """The positions of the decisions that do not matter in an architecture."""
    if not space.layout.conditional:
        return []
    return [position for position, active in enumerate(space.layout.active(arch.picks)) if not active]


def _category(option: Any) -> str | int | float | bool | None:
    """An option as Optuna's categories allow it: lists and objects as text."""
    return option if isinstance(option, str | int | float | bool | None) else str(option)


def _damaged_journal(journal: Path, error: Exception) -> UserError:
    """The error for a journal of an earlier version that cannot be replayed, with the first line that is no entry."""
    from nasbench.storage.line_file import is_entry

    lines = journal.read_bytes().splitlines(keepends=True)
    broken = next((number for number, line in enumerate(lines, start=1) if not is_entry(line)), None)
    where = f"line {broken} of {len(lines)} is no entry" if broken else f"{type(error).__name__}: {error}"
    return UserError(
        f"the record {journal} is damaged ({where}); restore it from a copy, or start another run: shared caches still "
        f"know what was trained."
    )
