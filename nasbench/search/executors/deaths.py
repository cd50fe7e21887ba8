"""Why a worker ended without a report."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nasbench.evaluators.trial import Evaluated
from nasbench.storage.checkpoints import Checkpoints

TUNE = ("ray.tune.execution.tune_controller", "ray.tune.tune")  # both tell of trials that failed; the record does, too


@dataclass
class Deaths:
    """The known causes of workers' ends: the traceback of a hanging one on disk, and the exceptions of Ray.

    Attributes:
        checkpoints: Checkpoints of the run; a hanging worker leaves a note there.
        minutes: Minutes after which a candidate is timed out.
        exceptions: Ray's exception for each trial, by the end of the trial's id.
    """

    checkpoints: Checkpoints
    minutes: float | None
    exceptions: dict[str, BaseException] = field(default_factory=dict)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Listen to Tune's log, which alone tells of exceptions, and keep its tracebacks from the terminal."""
        exceptions = self.exceptions

        class Listener(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if record.exc_info and record.exc_info[1] is not None:
                    exceptions[_key(record.getMessage())] = record.exc_info[1]

        logs, listener = [logging.getLogger(name) for name in TUNE], Listener(logging.ERROR)
        before = [log.propagate for log in logs]
        for log in logs:
            log.addHandler(listener)
            log.propagate = False
        try:
            yield
        finally:
            for log, propagate in zip(logs, before, strict=True):
                log.removeHandler(listener)
                log.propagate = propagate

    def add(self, trial_id: str, cause: str) -> None:
        """Note the cause of an end of which Ray says nothing."""
        self.exceptions[_key(trial_id)] = RuntimeError(cause)

    def explain(self, trial_id: str, number: int, seconds: float) -> Evaluated:
        """The outcome of a candidate whose worker ended: timed out, out of memory, or crashed."""
        where = _where(self.checkpoints.take_hang(number))
        exception = self.exceptions.pop(_key(trial_id), None)
        if where is not None:
            error = f"it hung {where}, longer than search.candidate_minutes={self.minutes:g}"
            return Evaluated("timed_out", {}, error, seconds)
        words = f"WorkerDied: {_first_sentence(exception)}"
        if type(exception).__name__ == "OutOfMemoryError":  # Ray ends the worker that needs most before the system does
            return Evaluated("out_of_memory", {}, words, seconds)
        return Evaluated("crashed", {}, words, seconds)


def _key(text: str) -> str:
    """The end of a trial's id, at the end of a text."""
    return text.rpartition("_")[2]


def _first_sentence(exception: BaseException | None) -> str:
    text = " ".join(str(exception).split()) if exception is not None else ""
    if not text:
        return "the worker process or its machine ended before it reported"
    return f"{type(exception).__name__}: {text}"[:300]


def _where(text: str) -> str | None:
    """The line at which the evaluating thread stood, from the traceback of a hanging worker; None if it wrote none."""
    threads = [re.findall(r'File "([^"]+)", line (\d+) in (\S+)', thread) for thread in text.split("hread 0x")]
    evaluating = [thread for thread in threads if any(function == "evaluate" for _, _, function in thread)]
    if not evaluating:
        return "somewhere" if text.strip() else None
    file, line, function = evaluating[0][0]
    return f"in {Path(file).name}, line {line}, {function}"
