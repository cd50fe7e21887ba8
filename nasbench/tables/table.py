"""A tabular benchmark: what was measured, once, for every architecture of a space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

Vector = npt.NDArray[np.float64]


class Column(NamedTuple):
    """Which accuracy: on which images, after how long a training.

    Attributes:
        dataset: Data set, such as "cifar10".
        split: Part of the images: "val" or "test".
        epochs: Epochs of the whole training schedule; 12 epochs of a schedule of 200 are another measurement.
    """

    dataset: str
    split: str
    epochs: int

    def __str__(self) -> str:
        return f"{self.dataset} {self.split} after {self.epochs} epochs"


class Table:
    """Measurements of every architecture of a space, in rows.

    Nothing is assumed in silence: a question names data set, split and epochs, and a column that was not measured is
    an error, never a neighbour of it. Architectures are looked up by their picks; those that build equal networks were
    trained apart and keep their own rows.

    Args:
        name: Name of the table.
        space: Search space of the rows.
        picks: (n, decisions) picks of each row; every architecture once.
        accuracy_pct: (n,) accuracies in percent for each column.
        train_s_per_epoch: (n,) seconds that one epoch on the full training images took, for each data set.
        params: (n,) trainable parameters.
        source: Where the numbers come from.
    """

    def __init__(
        self,
        name: str,
        space: SearchSpace,
        picks: npt.NDArray[np.integer[Any]],
        *,
        accuracy_pct: Mapping[Column, Vector],
        train_s_per_epoch: Mapping[str, Vector],
        params: npt.NDArray[np.int64],
        source: str,
    ) -> None:
        self.name, self.space, self.source = name, space, source
        self._accuracy = {column: _frozen(values) for column, values in accuracy_pct.items()}
        self._seconds = {dataset: _frozen(values) for dataset, values in train_s_per_epoch.items()}
        self.params = _frozen(params)
        self._picks = [tuple(row) for row in picks.tolist()]
        self._rows = {row_picks: row for row, row_picks in enumerate(self._picks)}
        vectors: list[Sequence[Any] | npt.NDArray[Any]] = [*self._accuracy.values(), *self._seconds.values(), params]
        if len(self._rows) != len(self._picks):
            twice = next(row_picks for row_picks, count in Counter(self._picks).items() if count > 1)
            raise UserError(f"table {name!r} has the architecture {twice} twice; give each one a single row.")
        lengths = {len(values) for values in vectors}
        if lengths != {len(self._picks)}:
            raise UserError(
                f"table {name!r} has {len(self._picks)} architectures and columns of {sorted(lengths)} rows; every "
                f"column needs every row."
            )

    def __len__(self) -> int:
        return len(self._picks)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that were measured."""
        return tuple(self._accuracy)

    @cached_property
    def architectures(self) -> tuple[Architecture, ...]:
        """The architectures of all rows."""
        return tuple(Architecture(self.space.name, picks) for picks in self._picks)

    def row(self, arch: Architecture) -> int:
        """The row of an architecture; raises UserError if it has none."""
        row = self._rows.get(arch.picks)
        if row is None or arch.space != self.space.name:
            self.space.require_valid(arch)
            raise UserError(f"table {self.name!r} has no row for {self.space.format(arch)}.")
        return row

    def query(self, arch: Architecture, *, dataset: str, split: str, epochs: int) -> float:
        """One accuracy, in percent.

        Raises:
            UserError: The architecture or the column is not in the table.
        """
        return float(self.column(dataset=dataset, split=split, epochs=epochs)[self.row(arch)])

    def column(self, *, dataset: str, split: str, epochs: int) -> Vector:
        """(n,) accuracies of all rows, in percent; not writable. Raises UserError if they were not measured."""
        accuracy = self._accuracy.get(Column(dataset, split, epochs))
        if accuracy is None:
            raise UserError(
                f"table {self.name!r} has no column {dataset!r}, split {split!r}, {epochs!r} epochs; "
                f"it has: {'; '.join(map(str, self.columns))}."
            )
        return accuracy

    def seconds_per_epoch(self, arch: Architecture, *, dataset: str) -> float:
        """Seconds that one epoch on the full training images of the data set took.

        Raises:
            UserError: The architecture or the data set is not in the table.
        """
        return float(self.epoch_seconds(dataset=dataset)[self.row(arch)])

    def epoch_seconds(self, *, dataset: str) -> Vector:
        """(n,) `seconds_per_epoch` of all rows; not writable."""
        if dataset not in self._seconds:
            raise UserError(
                f"table {self.name!r} has no training times on {dataset!r}; it has them on: {', '.join(self._seconds)}."
            )
        return self._seconds[dataset]


def _frozen(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    copy = np.array(values)
    copy.setflags(write=False)
    return copy
