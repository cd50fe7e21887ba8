"""Scalars of a search for TensorBoard: ``tensorboard --logdir RUN/tensorboard``."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from nasbench.evaluators.outcomes import SCORED
from nasbench.search.record import RecordedCandidate
from nasbench.search.study import Study
from nasbench.search.tally import Tally
from nasbench.storage.pace import Pace

BURST, EVERY_S = 1000, 0.2

log = logging.getLogger(__name__)


class Scalars:
    """Writes what a search has found so far, by the number of outcomes, and the learning curve of each candidate.

    The record is the truth: a resumed run writes the scalars of earlier outcomes anew, so none is missing or there
    twice. Of candidates that end faster than anybody looks, `BURST` are written and then one in `EVERY_S`; every one is
    counted. A disk that refuses them does not end the search.

    Args:
        study: Study whose candidates are shown.
        folder: Folder of the event files; what it held is removed.
    """

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder
        self._steps = 0
        self._tally = Tally(study.objectives, study.full_epochs)
        shutil.rmtree(folder, ignore_errors=True)
        self._file: EventFile | None = None
        try:
            self._file = EventFile(folder / "search")
        except OSError as error:
            self._give_up(error)
        ended = [candidate for candidate in study.candidates if candidate.status != "running"]
        ended.sort(key=lambda candidate: (candidate.finished_s, candidate.id))
        every = -(-len(ended) // BURST) or 1
        for position, candidate in enumerate(ended, start=1):
            self.candidate(candidate, shown=position % every == 0 or position == len(ended))
        self._pace = Pace(BURST, EVERY_S)

    def candidate(self, candidate: RecordedCandidate, *, shown: bool | None = None) -> None:
        """Add a candidate that ended, and what is known with it: the best score, the front, the utilization.

        Args:
            candidate: Candidate that ended.
            shown: Whether the candidate is written, or only counted; None writes it unless many come at once.
        """
        if self._file is None:
            return
        self._steps += 1
        tally = self._tally
        tally.begin()
        tally.end(candidate)
        if not (self._pace.allows() if shown is None else shown):
            return
        values = {f"outcomes/{kind}": float(count) for kind, count in tally.counts.items() if kind != "running"}
        values["search/front_size"] = float(tally.front_size)
        if candidate.finished_s:
            workers = self.study.workers
            values["search/utilization"] = tally.trained_s / (workers * candidate.finished_s)
        if candidate.status in SCORED:
            values |= {f"candidate/{name}": value for name, value in candidate.metrics.items()}
            values["candidate/training_seconds"] = candidate.training_seconds
        if candidate.scores and candidate.status == "done":
            values["candidate/score"] = candidate.scores[0]
        if tally.best is not None and tally.best.scores:
            values["search/best_score"] = tally.best.scores[0]
        try:
            for name, value in values.items():
                self._file.add(name, value, self._steps)
            self._file.flush()
            self._curve(candidate)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Write nothing more."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _curve(self, candidate: RecordedCandidate) -> None:
        if len(candidate.curve) < 2:
            return
        with contextlib.closing(EventFile(self.folder / "curves" / f"{candidate.id:05d}")) as file:
            for epoch in sorted(candidate.curve, key=int):
                file.add(self.study.quality, candidate.curve[epoch], int(epoch))
            file.flush()

    def _give_up(self, error: OSError) -> None:
        log.warning("no more scalars for TensorBoard are written into %s: %s", self.folder, error)
        self.close()


class EventFile:
    """An event file that is written at once: a thread that a full disk ends, as in SummaryWriter, hangs its callers.

    Args:
        folder: Folder of the file; created if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._events = EventsWriter(str(folder / "events"))

    def add(self, tag: str, value: float, step: int) -> None:
        """Add a scalar."""
        self._events.write_event(Event(wall_time=time.time(), step=step, summary=scalar(tag, value)))

    def flush(self) -> None:
        """Let readers see what was added."""
        self._events.flush()

    def close(self) -> None:
        """Close the file; what cannot be written is lost."""
        with contextlib.suppress(OSError):
            self._events.close()
