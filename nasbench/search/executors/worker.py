"""The side of a Ray Tune run that evaluates: what happens inside a worker process."""

from __future__ import annotations

import faulthandler
import json
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nasbench.evaluators import SCORED, Evaluated, Evaluator, Trial, evaluate
from nasbench.experiment.experiment import Experiment
from nasbench.objectives.reward import scores
from nasbench.search.config import Hyperband
from nasbench.search.executors.schedulers import SCORE, TIME
from nasbench.storage.checkpoints import Checkpoints

GRACE = 1.2  # a candidate that has not noticed its own deadline after so much more time, plus these seconds, hangs
GRACE_S = 10.0
TELL_S = 30.0  # for what a hanging candidate leaves to reach a remote folder


@dataclass(frozen=True)
class Worker:
    """What travels to the workers, once for each machine.

    Attributes:
        evaluator: what scores a candidate.
        experiment: what was asked.
        checkpoints: of the run.
    """

    evaluator: Evaluator
    experiment: Experiment
    checkpoints: Checkpoints

    @property
    def limit_s(self) -> float | None:
        """Seconds after which a worker ends itself with the candidate that hangs in it; None never."""
        minutes = self.experiment.search.candidate_minutes
        return None if minutes is None else 60 * minutes * GRACE + GRACE_S


def run_trial(config: dict[str, Any], worker: Worker) -> None:
    """Evaluate a candidate; report after each epoch if a scheduler listens, and once at the end, in plain values."""
    from ray import tune

    trial = Trial.from_json(config["trial"])
    experiment = worker.experiment
    epochs = trial.epochs or experiment.training.epochs
    reached = 0

    def send(evaluated: Evaluated) -> None:
        # As text, for Ray Tune flattens nested results.
        tune.report({"evaluated": json.dumps(evaluated.to_json()), TIME: reached, SCORE: _score(experiment, evaluated)})

    def report(epoch: int, so_far: Evaluated) -> bool:
        nonlocal reached
        reached = epoch
        if experiment.scheduler is not None and epoch < epochs:
            send(so_far)  # a candidate that is stopped here does not come back
        return True

    with _watched(worker.checkpoints, trial.number, worker.limit_s):
        evaluated = evaluate(worker.evaluator, trial, report)
    send(evaluated)


def _score(experiment: Experiment, evaluated: Evaluated) -> float:
    """What a scheduler compares; for a failure what it takes as the worst, or does not count."""
    if evaluated.status in SCORED and experiment.needed_metrics <= set(evaluated.metrics):
        return scores(experiment, evaluated.metrics)[0]
    return -1e30 if isinstance(experiment.scheduler, Hyperband) else math.nan  # Hyperband sorts, others skip nan


@contextmanager
def _watched(checkpoints: Checkpoints, number: int, limit_s: float | None) -> Iterator[None]:
    """End this process if the candidate hangs, after writing down where; works while the interpreter is locked, too.

    What is written down goes to a remote folder only if the interpreter is not locked.
    """
    if limit_s is None:
        yield
        return
    notes = checkpoints.hang(number)
    notes.parent.mkdir(parents=True, exist_ok=True)
    with notes.open("w") as file:

        def tell() -> None:
            faulthandler.dump_traceback(file)
            try:
                checkpoints.send_hang(number)
            finally:
                os._exit(1)

        timer = threading.Timer(limit_s, tell)
        timer.daemon = True
        if checkpoints.remote:
            timer.start()
        faulthandler.dump_traceback_later(limit_s + (TELL_S if checkpoints.remote else 0), file=file, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            timer.cancel()
    notes.unlink(missing_ok=True)
