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
        names: of the decisions.
        options: of each.
    """

    names: tuple[str, ...] = ()
    options: tuple[tuple[Any, ...], ...] = ()

    @cached_property
    def positions(self) -> dict[str, int]:
        """Of each decision."""
        return {name: position for position, name in enumerate(self.names)}


class Choices(Mapping[str, Any]):
    """Of each decision that matters its option, read from the picks when it is asked for: most never are.

    Args:
        table: the decisions of the space.
        picks: of the architecture.
        idle: positions of the decisions that do not matter in it.
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


FIELDS = tuple(known.name for known in dataclasses.fields(RecordedCandidate))
TOLD: dict[str, Any] = {
    "seconds": 0.0,
    "finished_s": 0.0,
    "error": None,
    "training_seconds": 0.0,
    "cached": False,
    "ending": None,
    "violation": None,
}
"""What an outcome may leave out, with what it is then."""


def fill(candidate: RecordedCandidate, outcome: Mapping[str, Any]) -> None:
    """Set what is known of a candidate that ended."""
    candidate.status = outcome["status"]
    for name, otherwise in TOLD.items():
        setattr(candidate, name, outcome.get(name, otherwise))
    candidate.metrics = dict(outcome.get("metrics", ()))
    candidate.scores = tuple(outcome["scores"]) if outcome.get("scores") else None
    if outcome.get("curve"):
        candidate.curve.update(outcome["curve"])


def describe(candidate: RecordedCandidate) -> dict[str, Any]:
    """A candidate in JSON values; its decisions are left out, which its notation tells."""
    known = {name: getattr(candidate, name) for name in FIELDS if name not in ("arch", "choices")}
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
