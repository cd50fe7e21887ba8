"""Scalars of a search for TensorBoard: ``tensorboard --logdir RUN/tensorboard``."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from tensorboardX import SummaryWriter

from nasbench.evaluation.outcomes import SCORED
from nasbench.study import Candidate, Study

log = logging.getLogger(__name__)


class Scalars:
    """Writes what a search has found so far, by the number of outcomes, and the learning curve of each candidate.

    The record is the truth: a resumed run writes the scalars of earlier outcomes anew, so none is missing or there
    twice. A disk that refuses them does not end the search.

    Args:
        study: whose candidates are shown.
        folder: for the event files; what it held is removed.
    """

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder
        self._steps = 0
        self._best: float | None = None
        self._counts: dict[str, int] = {}
        shutil.rmtree(folder, ignore_errors=True)
        self._writer: SummaryWriter | None = None
        try:
            self._writer = SummaryWriter(str(folder / "search"), flush_secs=10)
        except OSError as error:
            self._give_up(error)
        ended = [candidate for candidate in study.candidates if candidate.status != "running"]
        for candidate in sorted(ended, key=lambda each: (each.finished_s, each.id)):
            self.candidate(candidate)

    def candidate(self, candidate: Candidate) -> None:
        """Add a candidate that ended."""
        if self._writer is None:
            return
        self._steps += 1
        self._counts[candidate.status] = self._counts.get(candidate.status, 0) + 1
        values = {f"outcomes/{kind}": float(count) for kind, count in self._counts.items()}
        if candidate.status in SCORED:
            values |= {f"candidate/{name}": value for name, value in candidate.metrics.items()}
            values["candidate/training_seconds"] = candidate.training_seconds
        if candidate.scores and candidate.status == "done":
            score = candidate.scores[0]
            self._best = score if self._best is None else max(self._best, score)
            values["candidate/score"] = score
        if self._best is not None:
            values["search/best_score"] = self._best
        try:
            for name, value in values.items():
                self._writer.add_scalar(name, value, self._steps)
            self._curve(candidate)
        except OSError as error:
            self._give_up(error)

    def progress(self) -> None:
        """Add what only the whole study knows: the size of the front and the utilization, as they are now."""
        if self._writer is None:
            return
        self._writer.add_scalar("search/front_size", len(self.study.front), self._steps)
        if self.study.utilization is not None:
            self._writer.add_scalar("search/utilization", self.study.utilization, self._steps)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _curve(self, candidate: Candidate) -> None:
        if len(candidate.curve) < 2:
            return
        with SummaryWriter(str(self.folder / "curves" / f"{candidate.id:05d}")) as writer:
            for epoch in sorted(candidate.curve, key=int):
                writer.add_scalar("val_acc_pct", candidate.curve[epoch], int(epoch))

    def _give_up(self, error: OSError) -> None:
        log.warning("no more scalars for TensorBoard are written into %s: %s", self.folder, error)
        self._writer = None
