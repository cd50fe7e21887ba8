"""How a search shows itself while it runs: a bar on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from nasbench.cli.output import err
from nasbench.study import Candidate, Study


class SearchProgress:
    """Phase, bar, best so far, counts, time left. Use as a context manager."""

    def __init__(self) -> None:
        self.lines = not sys.stderr.isatty()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=err,
            disable=self.lines,
        )
        self.task: TaskID | None = None
        self.started = time.monotonic()

    def __enter__(self) -> SearchProgress:
        """Start showing."""
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        self.bar.stop()

    def _line(self, text: str) -> None:
        if self.lines:
            err.print(
                f"[{time.monotonic() - self.started:6.1f} s] {text}", markup=False, highlight=False, soft_wrap=True
            )

    def phase(self, name: str, total: int) -> None:
        """A new part of the work begins."""
        self.task = self.bar.add_task(name, total=total, text="")
        self._line(f"{name}: {total} to do")

    def advance(self, done: int, text: str = "") -> None:
        """So much of the part is done."""
        assert self.task is not None, "phase() comes first"
        self.bar.update(self.task, completed=done, text=text)
        if text:
            self._line(text)

    def candidate(self, candidate: Candidate, study: Study) -> None:
        """A candidate finished."""
        best = study.best
        # The counts come first: a narrow terminal cuts what comes last.
        parts = [f"failed {study.count('failed')}", f"over a limit {study.count('infeasible')}"]
        parts.append(f"front {len(study.front)}")
        if best is not None and best.scores:
            parts.append(f"best {best.scores[0]:.2f} ({_numbers(best)})")
        text = ", ".join(parts)
        assert self.task is not None, "phase() comes first"
        self.bar.update(self.task, completed=study.count("done"), text=text)
        told = candidate.error or _numbers(candidate)
        self._line(f"candidate {candidate.id} {candidate.status}: {told}; done {study.count('done')}, {text}")

    def retry(self, number: int, status: str, error: str | None) -> None:
        """An attempt failed and is followed by another one."""
        self._line(f"candidate {number} {status}, tried again: {error}")

    def stopping(self) -> None:
        """The user wants to stop."""
        err.print("stopping after the running candidates finish; press Ctrl-C again to stop now")


def _numbers(candidate: Candidate) -> str:
    metrics = candidate.metrics
    texts = [f"{metrics['val_acc_pct']:.2f} %"] if "val_acc_pct" in metrics else []
    if "latency_ms" in metrics:
        texts.append(f"{metrics['latency_ms']:.3f} ms")
    return ", ".join(texts)
