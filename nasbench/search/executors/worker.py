"""The side of a Ray Tune run that evaluates: what happens inside a worker process."""

from __future__ import annotations

import faulthandler
import json
import math
import pickle
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.outcomes import SCORED
from nasbench.evaluators.trial import Evaluated, Trial
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import Reward, needed_metrics, scores
from nasbench.search.config import Hyperband, SchedulerConfig
from nasbench.search.executors.executor import ExecutorOptions
from nasbench.search.executors.schedulers import SCORE, TIME
from nasbench.search.study import Study
from nasbench.storage.checkpoints import Checkpoints
from nasbench.storage.code_digest import changes, code_digests
from nasbench_registry import UserError

GRACE = 1.2  # a candidate that has not noticed its own deadline after so much more time, plus these seconds, hangs
GRACE_S = 10.0


@dataclass(frozen=True)
class Worker:
    """The evaluator and its setting, sent to the workers once for each machine.

    Attributes:
        evaluator: Evaluator that scores a candidate.
        objectives: Objectives of the search.
        reward: Reward of the search; a scheduler compares its first score.
        checkpoints: Checkpoints of the run.
        quality: Metric of the learning curve.
        scheduler: Scheduler that gets a report after each epoch; None reports at the end only.
        candidate_minutes: Minutes after which a candidate is timed out; None is no limit.
        code: Digests of the user's own code, which a worker that starts later may find edited.
        token: Token by which a process recognises a worker that it holds already, with all that was loaded and fitted.
    """

    evaluator: Evaluator
    objectives: tuple[Objective, ...]
    reward: Reward
    checkpoints: Checkpoints
    quality: str = "val_acc_pct"
    scheduler: SchedulerConfig | None = None
    candidate_minutes: float | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def of(cls, study: Study, evaluator: Evaluator, options: ExecutorOptions) -> Worker:
        """The worker of a search."""
        return cls(
            evaluator,
            study.objectives,
            study.reward,
            Checkpoints(options.checkpoints.folder.absolute()),
            quality=study.quality,
            scheduler=options.scheduler,
            candidate_minutes=options.candidate_minutes,
            code=files_only(code_digests(evaluator)),
        )

    @property
    def limit_s(self) -> float | None:
        """Seconds after which a worker ends itself with the candidate that hangs in it; None never."""
        return None if self.candidate_minutes is None else 60 * self.candidate_minutes * GRACE + GRACE_S


def files_only(digests: Mapping[str, str]) -> dict[str, str]:
    """The digests of modules, without those of what a notebook defines, which travels by value."""
    return {name: digest for name, digest in digests.items() if ":" not in name}


@contextmanager
def travelling() -> Iterator[None]:
    """Within the context an evaluator is pickled; UserError if it cannot be."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, pickle.PicklingError) as error:
        raise UserError(
            f"the evaluator cannot travel to Ray's workers: {_last_words(error)}; keep locks, files and "
            f"connections out of the space and of the function, or use executor inline (workers=1)."
        ) from error


def _last_words(error: BaseException) -> str:
    """The message of the innermost cause of an exception: Ray wraps it into pages."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def edited_code(worker: Worker) -> Evaluated | None:
    """The outcome of every candidate in a process that imported other code than the search has; None if it did not."""
    edited = changes(worker.code, files_only(code_digests(worker.evaluator)))
    if not edited:
        return None
    return Evaluated("failed", {}, f"code was edited while the search ran: {'; '.join(edited)}", 0.0)


_RESIDENT: dict[str, Worker] = {}  # at most one: what this process was given first
_EDITED: list[Evaluated] = []  # what every candidate comes to if the user's code changed before it was imported here


class _EndedByTune(BaseException):
    """Tune ended the candidate; nothing of the evaluator may take it for an error of its own."""


def run_trial(config: dict[str, Any], worker: Worker) -> None:
    """Evaluate a candidate; report after each epoch if a scheduler listens, and once at the end, in plain values."""
    from ray import tune

    if worker.token not in _RESIDENT:
        _RESIDENT.clear()
        edited = edited_code(worker)
        _EDITED[:] = [] if edited is None else [edited]
        _RESIDENT[worker.token] = worker
    worker = _RESIDENT[worker.token]
    trial = Trial.from_json(config["trial"])
    epochs = trial.epochs or trial.full_epochs
    reached = 0

    def send(evaluated: Evaluated) -> None:
        # As text, for Ray Tune flattens nested results.
        result = {"evaluated": json.dumps(evaluated.to_json()), TIME: reached, SCORE: _score(worker, evaluated)}
        try:
            tune.report(result)
        except SystemExit:  # so Tune ends a candidate; where the user's code calls sys.exit, the candidate fails
            raise _EndedByTune from None

    def report(epoch: int, so_far: Evaluated) -> bool:
        nonlocal reached
        reached = epoch
        if worker.scheduler is not None and epoch < epochs:
            send(so_far)  # a candidate that is stopped here does not come back
        return True

    try:
        if _EDITED:
            send(_EDITED[0])
            return
        with watched(worker.checkpoints, trial.number, worker.limit_s):
            evaluated = evaluate(worker.evaluator, trial, report, curve_of=worker.quality)
        send(evaluated)
    except _EndedByTune:
        raise SystemExit(0) from None


def _score(worker: Worker, evaluated: Evaluated) -> float:
    """The score that a scheduler compares; for a failure the one that it takes as the worst, or does not count."""
    needed = needed_metrics(worker.objectives, worker.reward)
    if evaluated.status in SCORED and needed <= set(evaluated.metrics):
        return scores(worker.objectives, worker.reward, evaluated.metrics)[0]
    return -1e30 if isinstance(worker.scheduler, Hyperband) else math.nan  # Hyperband sorts, others skip nan


@contextmanager
def watched(checkpoints: Checkpoints, number: int, limit_s: float | None) -> Iterator[None]:
    """End this process if the candidate hangs, after writing down where; works while the interpreter is locked, too."""
    if limit_s is None:
        yield
        return
    notes = checkpoints.hang(number)
    notes.parent.mkdir(parents=True, exist_ok=True)
    with notes.open("w") as file:
        faulthandler.dump_traceback_later(limit_s, file=file, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    notes.unlink(missing_ok=True)
