"""What goes to where a candidate is evaluated, and what comes back: frozen data that cross a process border as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nasbench.evaluators.outcomes import Ending, Status
from search_spaces import Architecture

History = tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
"""Earlier candidates in the notation of the space, each with metrics that are known of it."""


@dataclass(frozen=True)
class Trial:
    """One candidate to evaluate.

    Attributes:
        number: in the study, from 0.
        arch: the architecture.
        epochs: the fidelity asked for; None is the full budget.
        seed: of its weights and of the order of its examples; depends on the architecture, not on the number.
        full_epochs: the full budget, in epochs.
        attempt: how many attempts came before this one.
        accumulate: parts into which each batch is divided, to need less memory; their gradients are added up.
        history: what the evaluator wants to know of the candidates before this one.
    """

    number: int
    arch: Architecture
    epochs: int | None
    seed: int
    full_epochs: int = 1
    attempt: int = 0
    accumulate: int = 1
    history: History = ()

    def to_json(self) -> dict[str, Any]:
        """The fields by name, the architecture as JSON."""
        return asdict(self) | {"arch": self.arch.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        """What `to_json` gave."""
        history = tuple((text, tuple((name, value) for name, value in known)) for text, known in data["history"])
        return cls(**{**data, "arch": Architecture.from_json(data["arch"]), "history": history})


@dataclass(frozen=True)
class Evaluated:
    """What came of a trial.

    Attributes:
        status: one of `OUTCOMES`.
        metrics: of a candidate that was done or stopped; what was known of another.
        error: why it is not done.
        seconds: it took.
        training_seconds: of these were spent in training.
        curve: the metric that candidates are compared by while they are trained, by epoch.
        cached: whether the result was known and nothing was trained.
        ending: of an infeasible one, the stage that ended it.
        violation: of an infeasible one, how far it is beyond the limits.
        simulated_s: seconds that it would have taken, where its result was looked up.
    """

    status: Status
    metrics: dict[str, float]
    error: str | None
    seconds: float
    training_seconds: float = 0.0
    curve: dict[str, float] = field(default_factory=dict)
    cached: bool = False
    ending: Ending | None = None
    violation: float | None = None
    simulated_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluated:
        """What `to_json` gave."""
        return cls(**data)
