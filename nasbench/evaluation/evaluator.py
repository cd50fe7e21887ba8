"""The contract of what scores a candidate, and the one place where its failures become words."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from nasbench.metrics import Metrics
from search_spaces import Architecture

Report = Callable[[int, Metrics], bool]
"""report(epoch, metrics) -> keep going?"""


@dataclass(frozen=True)
class Trial:
    """One candidate to evaluate.

    Attributes:
        number: in the study, from 0.
        arch: the architecture.
        epochs: the fidelity asked for; None is the full budget.
        seed: of its weights and of the order of its images; depends on the architecture, not on the number.
    """

    number: int
    arch: Architecture
    epochs: int | None
    seed: int


class Evaluator(Protocol):
    """Scores candidates; picklable, so that it can travel to a worker."""

    def __call__(self, trial: Trial, report: Report) -> Metrics:
        """The metrics of the candidate; an exception if it failed."""


class InfeasibleError(Exception):
    """The candidate breaks a hard limit; that is no failure of the machinery."""


Status = Literal["done", "failed", "infeasible"]


@dataclass(frozen=True)
class Evaluated:
    """What came of a trial, in values that cross a process border as JSON.

    Attributes:
        status: done, failed or infeasible.
        metrics: of a done candidate; what was known of another.
        error: why it is not done.
        seconds: it took.
    """

    status: Status
    metrics: dict[str, float]
    error: str | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {"status": self.status, "metrics": self.metrics, "error": self.error, "seconds": self.seconds}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluated:
        """What `to_json` gave."""
        return cls(data["status"], dict(data["metrics"]), data["error"], float(data["seconds"]))


def evaluate(evaluator: Evaluator, trial: Trial, report: Report | None = None) -> Evaluated:
    """Run an evaluator; whatever it raises is recorded, and the search goes on."""
    started = time.perf_counter()

    def result(status: Status, metrics: Metrics, error: str | None) -> Evaluated:
        return Evaluated(status, dict(metrics), error, time.perf_counter() - started)

    try:
        returned = evaluator(trial, report or (lambda epoch, metrics: True))
        metrics = {str(name): float(value) for name, value in returned.items()}
    except InfeasibleError as error:
        return result("infeasible", {}, str(error))
    except Exception as error:  # a candidate may fail in any way; the search must not
        return result("failed", {}, f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"[:500])
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        return result("failed", {}, f"Diverged: {', '.join(broken)} is not a finite number")
    return result("done", metrics, None)
