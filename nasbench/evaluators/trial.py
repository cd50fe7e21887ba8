"""Input and outcome of an evaluation: frozen data that cross a process border as JSON."""

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
        number: Number of the candidate in the study, from 0.
        arch: Architecture of the candidate.
        epochs: Epochs that were asked for; None is the full budget.
        seed: Random seed of its weights and of the order of its examples; depends on the architecture, not on the
            number.
        full_epochs: Full budget, in epochs.
        attempt: Number of attempts before this one.
        accumulate: Parts into which each batch is divided, to need less memory; their gradients are added up.
        history: What the evaluator needs of the candidates before this one.
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
        """The trial that `to_json` gave."""
        history = tuple((text, tuple((name, value) for name, value in metrics)) for text, metrics in data["history"])
        return cls(**{**data, "arch": Architecture.from_json(data["arch"]), "history": history})


@dataclass(frozen=True)
class Evaluated:
    """The outcome of a trial.

    Attributes:
        status: Status of the candidate, one of `OUTCOMES`.
        metrics: Metrics of a candidate that was done or stopped; what was known of another.
        error: Why the candidate is not done.
        seconds: Seconds that the evaluation took.
        training_seconds: Seconds of the evaluation that were spent in training.
        curve: Learning curve by epoch, of the metric that candidates are compared by while they are trained.
        cached: Whether the result was known and nothing was trained.
        ending: Stage that ended an infeasible candidate.
        violation: How far an infeasible candidate is beyond the limits.
        simulated_s: Seconds that it would have taken, where its result was looked up.
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
        """The outcome that `to_json` gave."""
        return cls(**data)
