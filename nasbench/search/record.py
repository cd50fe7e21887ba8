"""A candidate as the record of a study knows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from search_spaces import Architecture


@dataclass(frozen=True)
class Table:
    """The decisions of a space, each with its options; objects and lists as text.

    Attributes:
        names: Names of the decisions.
        options: Options of each decision.
    """

    names: tuple[str, ...] = ()
    options: tuple[tuple[Any, ...], ...] = ()

    @cached_property
    def positions(self) -> dict[str, int]:
        """The position of each decision."""
        return {name: position for position, name in enumerate(self.names)}


class Choices(Mapping[str, Any]):
    """The option of each decision that matters, read from the picks when it is asked for: most never are.

    Args:
        table: Decisions of the space.
        picks: Picks of the architecture.
        idle: Positions of the decisions that do not matter in it.
    """

    __slots__ = ("idle", "picks", "table")

    def __init__(self, table: Table, picks: Sequence[int], idle: Sequence[int] = ()) -> None:
        self.table, self.picks, self.idle = table, picks, tuple(idle)

    def __getitem__(self, name: str) -> Any:
        position = self.table.positions[name]
        if position in self.idle:
            raise KeyError(name)
        return self.table.options[position][self.picks[position]]

    def __iter__(self) -> Iterator[str]:
        return (name for position, name in enumerate(self.table.names) if position not in self.idle)

    def __len__(self) -> int:
        return len(self.picks) - len(self.idle)

    def __repr__(self) -> str:
        return repr(dict(self))


@dataclass(slots=True)
class RecordedCandidate:
    """A candidate as the record knows it; to read it takes no search space.

    Attributes:
        id: Number of the candidate, from 0.
        arch: Architecture of the candidate.
        epochs: Epochs that were asked for; None is the full budget.
        architecture: Architecture in the notation of its space.
        choices: Option of each decision that matters; objects and lists as text.
        network: Notation of the network alone, where a recipe belongs to the architecture.
        recipe: Entries of that recipe; None where it is the same for all candidates.
        status: Status of the candidate: running, or one of `OUTCOMES`.
        metrics: Metrics of a candidate that is done or was stopped early.
        scores: Scores that the controller got; None unless the candidate was scored.
        seconds: Seconds that the evaluation took, without earlier attempts.
        finished_s: Seconds of search at which the candidate finished, pauses between resumes left out.
        error: Why the candidate is not done.
        training_seconds: Seconds of the evaluation that were spent in training, also before an interruption.
        curve: Learning curve by epoch, of the metric that candidates are compared by in training, where it was given.
        attempts: Status, error and seconds of attempts that were followed by another one.
        cached: Whether the outcome comes from the shared cache, so that nothing was trained.
        ending: Stage of the evaluation that ended an infeasible candidate.
        violation: How far an infeasible candidate is beyond the limits; None if that is not known.
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


FIELDS = tuple(attribute.name for attribute in dataclasses.fields(RecordedCandidate))
OUTCOME_DEFAULTS: dict[str, Any] = {
    "seconds": 0.0,
    "finished_s": 0.0,
    "error": None,
    "training_seconds": 0.0,
    "cached": False,
    "ending": None,
    "violation": None,
}
"""Values of an outcome that may be left out because they are as usual."""


def fill(candidate: RecordedCandidate, outcome: Mapping[str, Any]) -> None:
    """Set what is known of a candidate that ended."""
    candidate.status = outcome["status"]
    for name, otherwise in OUTCOME_DEFAULTS.items():
        setattr(candidate, name, outcome.get(name, otherwise))
    candidate.metrics = dict(outcome.get("metrics", ()))
    candidate.scores = tuple(outcome["scores"]) if outcome.get("scores") else None
    if outcome.get("curve"):
        candidate.curve.update(outcome["curve"])


def describe(candidate: RecordedCandidate) -> dict[str, Any]:
    """A candidate in JSON values; its decisions are left out, which its notation tells."""
    entries = {name: getattr(candidate, name) for name in FIELDS if name not in ("arch", "choices")}
    return entries | {
        "scores": list(candidate.scores) if candidate.scores else None,
        "curve": {epoch: round(candidate.curve[epoch], 3) for epoch in sorted(candidate.curve, key=int)},
    }


def comparable(candidates: Sequence[RecordedCandidate], full_epochs: int) -> list[RecordedCandidate]:
    """The done candidates that were trained for the largest number of epochs among them.

    Args:
        candidates: Candidates of a study.
        full_epochs: Epochs of a candidate that was asked for without a number of epochs.
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
