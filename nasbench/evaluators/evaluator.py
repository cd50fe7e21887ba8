"""The contract of what scores a candidate, and the one place where its failures become words."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import torch

from nasbench.evaluators.outcomes import Ending, Status
from nasbench.objectives.metrics import Metrics
from nasbench.training import Diverged, TimedOut
from search_spaces import Architecture

Report = Callable[[int, Metrics], bool]
"""report(epoch, metrics) -> keep going?"""

Earlier = tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
"""Candidates in the notation of the space, each with metrics that are known of it."""


@dataclass(frozen=True)
class Trial:
    """One candidate to evaluate.

    Attributes:
        number: in the study, from 0.
        arch: the architecture.
        epochs: the fidelity asked for; None is the full budget.
        seed: of its weights and of the order of its images; depends on the architecture, not on the number.
        attempt: how many attempts came before this one.
        learned: architectures in the notation of the space whose latency was measured during the search, with
            milliseconds; the latency predictor is fitted on them, too.
        earlier: what stages of the search found of the candidates before this one, where recipes are searched, too.
        accumulate: parts into which each batch is divided, to need less memory; their gradients are added up.
    """

    number: int
    arch: Architecture
    epochs: int | None
    seed: int
    attempt: int = 0
    accumulate: int = 1
    learned: tuple[tuple[str, float], ...] = ()
    earlier: Earlier = ()

    def to_json(self) -> dict[str, Any]:
        """The fields by name, the architecture as JSON."""
        return asdict(self) | {"arch": self.arch.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        """What `to_json` gave."""
        learned = tuple((text, latency_ms) for text, latency_ms in data.get("learned", ()))
        earlier = tuple(
            (text, tuple((name, value) for name, value in known)) for text, known in data.get("earlier", ())
        )
        arch = Architecture.from_json(data["arch"])
        return cls(**{**data, "arch": arch, "learned": learned, "earlier": earlier})


class Evaluator(Protocol):
    """Scores candidates; picklable, so that it can travel to a worker."""

    def __call__(self, trial: Trial, report: Report) -> Metrics:
        """The metrics of the candidate; an exception if it failed.

        Two entries describe the evaluation instead of the candidate and are kept apart: `training_seconds`, the
        seconds spent in training, and `cached`, not zero if nothing was trained because the result was known.
        """


class InfeasibleError(Exception):
    """The candidate breaks a hard limit; that is no failure of the machinery.

    Attributes:
        metrics: what was known of it.
        ending: the stage of the evaluation that ended it.
        violation: how far it is beyond the limits, see `nasbench.objectives.reward.violation`; None if that is
            not known.
    """

    def __init__(
        self,
        message: str,
        metrics: Metrics | None = None,
        ending: Ending | None = None,
        violation: float | None = None,
    ) -> None:
        super().__init__(message)
        self.metrics: Metrics = metrics or {}
        self.ending = ending
        self.violation = violation


class InvalidNetwork(Exception):
    """The architecture builds no network, or one that does not fit the task."""


@dataclass(frozen=True)
class Evaluated:
    """What came of a trial, in values that cross a process border as JSON.

    Attributes:
        status: one of `OUTCOMES`.
        metrics: of a candidate that was done or stopped; what was known of another.
        error: why it is not done.
        seconds: it took.
        training_seconds: of these were spent in training.
        curve: validation accuracy in percent by epoch.
        cached: whether the result was known and nothing was trained.
        ending: of an infeasible one, the stage that ended it.
        violation: of an infeasible one, how far it is beyond the limits.
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

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluated:
        """What `to_json` gave."""
        return cls(**data)


def evaluate(evaluator: Evaluator, trial: Trial, report: Callable[[int, Evaluated], bool] | None = None) -> Evaluated:
    """Run an evaluator; whatever it raises becomes an outcome of its kind, and the search goes on.

    Args:
        evaluator: what scores the candidate.
        trial: the candidate.
        report: called after each epoch that the evaluator reports, with the outcome if the candidate were stopped
            now; False stops it.
    """
    started = time.perf_counter()
    curve: dict[str, float] = {}
    stopped_after: int | None = None

    def result(status: Status, metrics: Metrics, error: str | None = None) -> Evaluated:
        known = {str(name): float(value) for name, value in metrics.items()}
        training = known.pop("training_seconds", 0.0)
        cached = bool(known.pop("cached", 0.0))
        return Evaluated(status, known, error, time.perf_counter() - started, training, dict(curve), cached)

    def on_epoch(epoch: int, metrics: Metrics) -> bool:
        nonlocal stopped_after
        if "val_acc_pct" in metrics:
            curve[str(epoch)] = float(metrics["val_acc_pct"])
        if report is not None and not report(epoch, result("stopped", metrics, _stopped(epoch))):
            stopped_after = epoch
        return stopped_after is None

    try:
        metrics = evaluator(trial, on_epoch)
        done = result("done", metrics) if stopped_after is None else result("stopped", metrics, _stopped(stopped_after))
    except Exception as error:  # a candidate may fail in any way; the search must not
        if isinstance(error, InfeasibleError):
            ended = result("infeasible", error.metrics, _words(error))
            return replace(ended, ending=error.ending, violation=error.violation)
        return result(_kind(error), {}, _words(error))
    broken = [name for name, value in done.metrics.items() if not math.isfinite(value)]
    if broken:
        return result("diverged", {}, f"Diverged: {', '.join(broken)} is not a finite number")
    return done


def _stopped(epoch: int) -> str:
    return f"stopped by the scheduler after epoch {epoch}"


def _kind(error: Exception) -> Status:
    if isinstance(error, InvalidNetwork):
        return "invalid"
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, TimedOut):
        return "timed_out"
    # The allocator of the CPU has no exception of its own.
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "out_of_memory"
    return "failed"


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, InfeasibleError | InvalidNetwork | TimedOut) and text:
        return text[:500]
    return f"{type(error).__name__}: {text or 'no message'}"[:500]
