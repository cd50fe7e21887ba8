"""The one place where an evaluation becomes an outcome, and its failures become messages."""

from __future__ import annotations

import contextlib
import math
import numbers
import time
from collections.abc import Callable, Mapping, Sequence
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
        evaluator: Evaluator that scores the candidate.
        trial: The candidate.
        report: Called after each epoch that the evaluator reports, with the outcome if the candidate were stopped now;
            False stops it.
        curve_of: Metric of the learning curve.

    Raises:
        OSError: The disk is full, or fails.
    """
    started = time.perf_counter()
    curve: dict[str, float] = {}
    stopped_after: int | None = None

    def result(status: Status, metrics: Metrics, error: str | None = None) -> Evaluated:
        return _evaluated(status, metrics, time.perf_counter() - started, error, dict(curve))

    def on_epoch(epoch: int, metrics: Metrics) -> bool:
        nonlocal stopped_after
        checked = _checked(metrics)
        if math.isfinite(checked.get(curve_of, math.nan)):
            curve[str(int(epoch))] = checked[curve_of]
        if report is not None and not report(int(epoch), result("stopped", checked, _stopped(epoch))):
            stopped_after = int(epoch)
        return stopped_after is None

    try:
        metrics = evaluator(Candidate(trial, evaluator.space, evaluator.task, on_epoch))
        if stopped_after is not None:
            return _if_finite(result("stopped", metrics, _stopped(stopped_after)))
        return _if_finite(result("done", metrics))
    except (Exception, SystemExit) as error:  # a candidate may fail in any way; the search must not
        return _failed(error, time.perf_counter() - started, curve)


def evaluate_many(evaluator: Evaluator, trials: Sequence[Trial], *, curve_of: str = "val_acc_pct") -> list[Evaluated]:
    """Run an evaluator that takes several candidates at once; what it raises becomes an outcome of its kind.

    Args:
        evaluator: Evaluator that scores the candidates.
        trials: Candidates to evaluate; a single one is evaluated alone.
        curve_of: Metric of the learning curve of one that is evaluated alone.

    Raises:
        OSError: The disk is full, or fails.
    """
    if len(trials) == 1:
        return [evaluate(evaluator, trials[0], curve_of=curve_of)]
    started = time.perf_counter()
    candidates = [Candidate(trial, evaluator.space, evaluator.task, _heard) for trial in trials]
    try:
        results = list(evaluator.evaluate_many(candidates))
        if len(results) != len(trials):
            raise WrongMetrics(f"evaluate_many returned {len(results)} results for {len(trials)} candidates.")
    except (Exception, SystemExit) as error:  # which of them it was, each says for itself
        if is_full(error):
            raise
        return [evaluate(evaluator, trial, curve_of=curve_of) for trial in trials]
    seconds = (time.perf_counter() - started) / len(trials)
    return [_one_of_many(metrics, seconds) for metrics in results]


def _heard(epoch: int, metrics: Metrics) -> bool:
    """Nobody listens to the epochs of a cheap candidate."""
    return True


def _one_of_many(metrics: Metrics | Exception, seconds: float) -> Evaluated:
    try:
        if isinstance(metrics, Exception):
            raise metrics
        return _if_finite(_evaluated("done", metrics, seconds))
    except Exception as error:  # as if it had been evaluated alone
        return _failed(error, seconds, {})


def _evaluated(
    status: Status,
    metrics: Metrics,
    seconds: float,
    error: str | None = None,
    curve: Mapping[str, float] | None = None,
) -> Evaluated:
    """An outcome, from which what describes the evaluation is kept apart."""
    checked = _checked(metrics)
    training = checked.pop("training_seconds", 0.0)
    cached = bool(checked.pop("cached", 0.0))
    simulated_s = checked.pop("simulated_seconds", 0.0)
    return Evaluated(status, checked, error, seconds, training, dict(curve or {}), cached, simulated_s=simulated_s)


def _if_finite(evaluated: Evaluated) -> Evaluated:
    """The outcome, unless one of its metrics is no finite number."""
    broken = [name for name, value in evaluated.metrics.items() if not math.isfinite(value)]
    if not broken:
        return evaluated
    words = f"Diverged: {', '.join(broken)} is not a finite number"
    return _evaluated("diverged", {}, evaluated.seconds, words, evaluated.curve)


def _failed(error: BaseException, seconds: float, curve: Mapping[str, float]) -> Evaluated:
    """The outcome of an evaluation that ended with an exception; a full disk is no fault of the candidate's."""
    if is_full(error):
        raise error  # it is tried again when there is room
    if isinstance(error, InfeasibleError):
        ended = _evaluated("infeasible", error.metrics, seconds, _words(error), curve)
        return replace(ended, ending=error.ending, violation=error.violation)
    spent = error.metrics if isinstance(error, InvalidNetwork) else {}
    return _evaluated(_kind(error), spent, seconds, _words(error), curve)


def _checked(metrics: Any) -> dict[str, float]:
    """Metrics as Python numbers by name.

    Raises:
        WrongMetrics: They are something else.
    """
    if not isinstance(metrics, Mapping):
        raise WrongMetrics(
            f"the evaluator returned {_short(metrics)}; return a dict of numbers, such as {{'f1': 0.9}}."
        )
    checked: dict[str, float] = {}
    for name, value in metrics.items():
        with contextlib.suppress(AttributeError, TypeError, ValueError, RuntimeError):
            value = value.item()  # an array or a tensor of one number
        if not isinstance(name, str) or not isinstance(value, numbers.Real):
            raise WrongMetrics(
                f"the evaluator gave {name!r}: {_short(value)}; give a number by the name of the metric."
            )
        checked[name] = float(value)
    return checked


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _stopped(epoch: int) -> str:
    return f"stopped by the scheduler after epoch {epoch}"


def _kind(error: BaseException) -> Status:
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


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, InfeasibleError | InvalidNetwork | TimedOut | WrongMetrics) and text:
        return text[:500]
    return f"{type(error).__name__}: {text or 'no message'}"[:500]
