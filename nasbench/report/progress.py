"""The progress of a search while it runs: a bar on a terminal, lines in a log."""

from __future__ import annotations

import importlib.util
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from nasbench.evaluators.outcomes import SCORED
from nasbench.report import units
from nasbench.search.callbacks import Callback
from nasbench.search.record import RecordedCandidate
from nasbench.search.study import Study
from nasbench.storage.pace import Pace

BURST, EVERY_S = 200, 1.0  # candidates in a row that have a line of their own, then seconds between two lines


class SearchProgress(Callback):
    """Phase, bar, outcomes, best so far, utilization, time left. Use as a context manager.

    Args:
        console: Console on which progress is shown; None is standard error, or the cell of a notebook.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, markup=False, emoji=False)
        self.lines = not (self.console.is_terminal or _draws_in_a_notebook(self.console))
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            TextColumn("{task.fields[text]}", markup=False),
            console=self.console,
            disable=self.lines,
        )
        self.task: TaskID | None = None
        self.started = time.monotonic()
        self._total = 0
        self._begun: tuple[int, float] | None = None  # how much was done when this process began with it, and when
        self._stopping = False
        self._repeats: list[RecordedCandidate] = []  # infeasible ones in a row
        self._pace = Pace(BURST, EVERY_S)
        self._unshown = 0  # candidates since the last line

    def __enter__(self) -> SearchProgress:
        """Start showing."""
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        self._end_repeats()
        self.bar.stop()

    def phase(self, name: str, total: int) -> None:
        """A new part of the work begins."""
        self._end_repeats()
        self.task, self._total, self._begun = self.bar.add_task(name, total=total, left="", text=""), total, None
        self._line(f"{name}: {total} to do")

    def advance(self, done: int, text: str = "") -> None:
        """Show how much of the part is done; the time left is estimated from the second call on."""
        self._show(done, time_left(self._rest_s(done)), text)
        if text:
            self._line(text)

    def candidate_done(self, candidate: RecordedCandidate, study: Study) -> None:
        """A candidate finished."""
        if not self._pace.allows():
            self._unshown += 1
            return  # candidates come faster than anybody reads
        finished, hours = study.finished, study.budget.max_hours
        rest_s = self._rest_s(finished)
        if hours is not None:
            until = max(0.0, 3600 * hours - study.elapsed_s)
            rest_s = until if rest_s is None else min(rest_s, until)
        left = time_left(rest_s)
        # The counts come first: a narrow terminal cuts what comes last.
        parts = [
            f"{units.outcome(kind)} {count}"
            for kind in ("stopped", *study.failures, "infeasible")
            if (count := study.count(kind))
        ]
        parts.append(f"front {study.front_size}")
        best = study.best
        if best is not None and best.scores:
            parts.append(f"best {best.scores[0]:.2f} ({_numbers(best, study)})")
        if study.utilization is not None:
            parts.append(f"training {100 * study.utilization:.0f} %")
        text = ", ".join(parts)
        self._show(finished, left, text)
        event = f"candidate {candidate.id} {units.outcome(candidate.status)}" + " (from the cache)" * candidate.cached
        if self._unshown:
            event, self._unshown = f"{self._unshown:,} candidates without a line; {event}", 0
        result = _numbers(candidate, study) if candidate.status in SCORED else candidate.error
        so_far = ", ".join(part for part in (f"done {study.count('done')} of {self._total}", text, left) if part)
        if candidate.status == "infeasible":
            self._repeats.append(candidate)
            if len(self._repeats) > 1:
                return  # the first one has its line, and the others share one
        else:
            self._end_repeats()
        self._line(f"{event}: {result}; {so_far}")

    def _end_repeats(self) -> None:
        """One line for all infeasible candidates in a row but the first, which had its own."""
        if len(self._repeats) > 1:
            first, last = self._repeats[1], self._repeats[-1]
            numbers = f"candidate {last.id}" if first is last else f"candidates {first.id} to {last.id}"
            count = len(self._repeats) - 1
            self._line(f"{numbers}: {count} more infeasible, the last one: {last.error}")
        self._repeats = []

    def retry(self, number: int, status: str, error: str | None) -> None:
        """An attempt failed and is followed by another one."""
        self._line(f"candidate {number} {units.outcome(status)}, tried again: {error or 'no message'}", always=True)

    def stopping(self) -> None:
        """The user wants to stop."""
        if not self._stopping:
            self._stopping = True
            text = "stopping after the running candidates finish; press Ctrl-C again to stop now"
            self.console.print(text, highlight=False, soft_wrap=True)

    def _line(self, text: str, *, always: bool = False) -> None:
        """A line in a log; above the bar of a terminal only if `always`."""
        if self.lines or always:
            self.console.print(
                f"[{time.monotonic() - self.started:6.1f} s] {text}", markup=False, highlight=False, soft_wrap=True
            )

    def _show(self, done: int, left: str, text: str) -> None:
        assert self.task is not None, "phase() comes first"
        self.bar.update(self.task, completed=done, left=left, text=text)

    def _rest_s(self, done: int) -> float | None:
        """Seconds until all is done, at the rate of this process; None until something was done in it."""
        if self._begun is None:
            self._begun = done, time.monotonic()
        before, moment = self._begun
        if done <= before:
            return None
        return (time.monotonic() - moment) / (done - before) * max(0, self._total - done)


def _draws_in_a_notebook(console: Console) -> bool:
    """Whether the output of a cell can be replaced, which takes ipywidgets."""
    return console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None


def time_left(seconds: float | None) -> str:
    """A rough time for people, ``12 min left``; empty where it is not known, or over."""
    if seconds is None or seconds <= 0:
        return ""
    if seconds < 90:
        return f"{max(1, round(seconds))} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h left"


def _numbers(candidate: RecordedCandidate, study: Study) -> str:
    """The metrics that the search optimises, with units where they are known."""
    texts = []
    for name in dict.fromkeys((study.quality, "latency_ms", *(objective.metric for objective in study.objectives))):
        if name in candidate.metrics:
            texts.append(_number(name, candidate.metrics[name]))
    if candidate.status == "stopped" and "epochs" in candidate.metrics:
        texts.append(f"epoch {candidate.metrics['epochs']:.0f}")
    return ", ".join(texts)


def _number(name: str, value: float) -> str:
    """A metric in a few characters; those that every search has go without their name."""
    if name == "val_acc_pct":
        return f"{value:.2f} %"
    if name == "latency_ms":
        return f"{value:.3f} ms"
    text = units.count(value) if name in ("macs", "params") else f"{value:.4g}"
    return f"{name} {text}"
