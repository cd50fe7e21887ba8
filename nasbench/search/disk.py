"""What a run may leave on the disk."""

from __future__ import annotations

from pathlib import Path

from nasbench.evaluation.checkpoints import Checkpoints
from nasbench.search.select import choose_survivors
from nasbench.study import Study

GB = 1e9


class Disk:
    """Gives up weights that nobody will need, and ends a search whose folder becomes too large.

    Args:
        study: whose run folder it is.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.checkpoints = Checkpoints(study.folder.checkpoints)
        for candidate in study.candidates:
            if candidate.status != "running":
                self._forget(candidate.id)

    def tidy(self, number: int) -> None:
        """Call it when a candidate finished: its state of training goes, and so do weights beyond the best ones."""
        self._forget(number)
        keep, limit = self.study.experiment.checkpoints.keep, self.study.experiment.search.max_disk_gb
        there = self._weights()
        if keep is not None and len(there) > keep:
            there = self._give_up(there, len(there) - keep)
        if limit is None:
            return
        used = folder_bytes(self.study.folder.path)
        while used > limit * GB and there:
            there = self._give_up(there, 1)
            used = folder_bytes(self.study.folder.path)
        if used > limit * GB:
            self.study.stop(f"the run folder holds {used / GB:.3g} GB, more than search.max_disk_gb={limit:g}")

    def _forget(self, number: int) -> None:
        self.checkpoints.training(number).unlink(missing_ok=True)
        self.checkpoints.hang(number).unlink(missing_ok=True)

    def _weights(self) -> list[int]:
        """The finished candidates whose weights are there, the one that is needed least first."""
        done = [c for c in self.study.candidates if c.status != "running" and self.checkpoints.weights(c.id).exists()]
        ranks = {c.id: rank for rank, c in enumerate(choose_survivors(self.study, len(self.study.candidates)))}
        return sorted((c.id for c in done), key=lambda number: (-ranks.get(number, len(ranks)), number))

    def _give_up(self, there: list[int], count: int) -> list[int]:
        for number in there[:count]:
            self.checkpoints.weights(number).unlink(missing_ok=True)
        return there[count:]


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; files that vanish meanwhile are not counted."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
