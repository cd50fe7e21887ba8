"""The one place where an evaluation becomes an outcome, and its failures become words."""

from __future__ import annotations

import contextlib
import math
import numbers
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.errors import InfeasibleError, InvalidNetwork
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.outcomes import Status
from nasbench.evaluators.trial import Evaluated, Trial
from nasbench.objectives.metrics import Metrics
from nasbench.storage.disk_errors import is_full
from nasbench.training.errors import Diverged, TimedOut


class WrongMetrics(Exception):
    """An evaluator gave something else than numbers by name."""


def evaluate(
    evaluator: Evaluator,
    trial: Trial,
    report: Callable[[int, Evaluated], bool] | None = None,
    *,
    curve_of: str = "val_acc_pct",
) -> Evaluated:
    """Run an evaluator; what it raises becomes an outcome of its kind, and the search goes on.

    Args:
        evaluator: what scores the candidate.
        trial: the candidate.
        report: called after each epoch that the evaluator reports, with the outcome if the candidate were stopped
            now; False stops it.
        curve_of: the metric that makes the learning curve.

    Raises:
        OSError: the disk is full, or fails.
    """
    started = time.perf_counter()
    curve: dict[str, float] = {}
    stopped_after: int | None = None

    def result(status: Status, metrics: Metrics, error: str | None = None) -> Evaluated:
        known = _checked(metrics)
        training = known.pop("training_seconds", 0.0)
        cached = bool(known.pop("cached", 0.0))
        simulated_s = known.pop("simulated_seconds", 0.0)
        seconds = time.perf_counter() - started
        return Evaluated(status, known, error, seconds, training, dict(curve), cached, simulated_s=simulated_s)

    def on_epoch(epoch: int, metrics: Metrics) -> bool:
        nonlocal stopped_after
        known = _checked(metrics)
        if math.isfinite(known.get(curve_of, math.nan)):
            curve[str(int(epoch))] = known[curve_of]
        if report is not None and not report(int(epoch), result("stopped", known, _stopped(epoch))):
            stopped_after = int(epoch)
        return stopped_after is None

    try:
        metrics = evaluator(Candidate(trial, evaluator.space, evaluator.task, on_epoch))
        done = result("done", metrics) if stopped_after is None else result("stopped", metrics, _stopped(stopped_after))
    except Exception as error:  # a candidate may fail in any way; the search must not
        if is_full(error):
            raise  # that is no fault of the candidate, which is tried again when there is room
        if isinstance(error, InfeasibleError):
            ended = result("infeasible", error.metrics, _words(error))
            return replace(ended, ending=error.ending, violation=error.violation)
        return result(_kind(error), {}, _words(error))
    broken = [name for name, value in done.metrics.items() if not math.isfinite(value)]
    if broken:
        return result("diverged", {}, f"Diverged: {', '.join(broken)} is not a finite number")
    return done


def _checked(metrics: Any) -> dict[str, float]:
    """Metrics as Python numbers by name.

    Raises:
        WrongMetrics: they are something else.
    """
    if not isinstance(metrics, Mapping):
        raise WrongMetrics(
            f"the evaluator returned {_short(metrics)}; return a dict of numbers, such as {{'f1': 0.9}}."
        )
    known: dict[str, float] = {}
    for name, value in metrics.items():
        with contextlib.suppress(AttributeError, TypeError, ValueError, RuntimeError):
            value = value.item()  # an array or a tensor of one number
        if not isinstance(name, str) or not isinstance(value, numbers.Real):
            raise WrongMetrics(
                f"the evaluator gave {name!r}: {_short(value)}; give a number by the name of the metric."
            )
        known[name] = float(value)
    return known


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


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
    if isinstance(error, InfeasibleError | InvalidNetwork | TimedOut | WrongMetrics) and text:
        return text[:500]
    return f"{type(error).__name__}: {text or 'no message'}"[:500]
