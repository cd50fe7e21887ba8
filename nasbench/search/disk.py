"""Limits on the files that a run leaves on the disk."""

from __future__ import annotations

import time
from pathlib import Path

from nasbench.search.select import choose_survivors
from nasbench.search.study import Study
from nasbench.storage.checkpoints import Checkpoints

GB = 1e9
LOOK_EVERY_S = 1.0


class Disk:
    """Gives up weights that nobody will need, and ends a search whose folder becomes too large.

    Args:
        study: Study whose candidates left the weights.
        checkpoints: Checkpoints that hold the weights.
        folder: Folder of the run.
        keep: Number of done candidates whose weights stay, the best ones; None keeps all.
        max_gb: Largest size of the run folder, in units of 1e9 bytes; None is no limit.
    """

    def __init__(
        self, study: Study, checkpoints: Checkpoints, folder: Path, *, keep: int | None, max_gb: float | None
    ) -> None:
        self.study, self.checkpoints, self.folder = study, checkpoints, folder
        self.keep, self.max_gb = keep, max_gb
        self._next_look = 0.0
        file_sizes = self.checkpoints.sizes()
        for candidate in study.candidates if file_sizes else ():
            if candidate.status != "running":
                self.checkpoints.forget(candidate.id, file_sizes)

    def tidy(self, number: int) -> None:
        """Call it when a candidate finished: its state of training goes, and so do weights beyond the best ones."""
        file_sizes = self.checkpoints.sizes()
        self.checkpoints.forget(number, file_sizes)
        now = time.monotonic()
        # Without weights the folder grows slowly, whatever the candidates cost.
        if file_sizes or now >= self._next_look:
            self._limit(file_sizes)
            self._next_look = now + LOOK_EVERY_S

    def _limit(self, file_sizes: dict[str, int]) -> None:
        keep, limit = self.keep, self.max_gb
        if limit is None and (keep is None or len(file_sizes) <= keep):
            return
        sizes = self._weights(file_sizes)
        excess = 0 if keep is None else len(sizes) - keep
        used = 0.0 if limit is None else folder_bytes(self.folder)
        for number, size in sizes.items():
            if excess <= 0 and (limit is None or used <= limit * GB):
                return
            self.checkpoints.remove_weights(number)
            excess, used = excess - 1, used - size
        if limit is not None and used > limit * GB:
            self.study.stop(f"the run folder holds {used / GB:.3g} GB, more than search.max_disk_gb={limit:g}")

    def _weights(self, file_sizes: dict[str, int]) -> dict[int, int]:
        """Bytes of the weights of finished candidates, those first that are needed least."""
        names = {c.id: self.checkpoints.weights(c.id) for c in self.study.candidates if c.status != "running"}
        ranks = {c.id: rank for rank, c in enumerate(choose_survivors(self.study, len(self.study.candidates)))}
        numbers = sorted(
            (number for number, name in names.items() if name in file_sizes),
            key=lambda number: (-ranks.get(number, len(ranks)), number),
        )
        return {number: file_sizes[names[number]] for number in numbers}


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; files that vanish meanwhile are not counted."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
