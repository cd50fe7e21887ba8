"""The contract of a latency predictor, and the descriptions of networks that it reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from nasbench.costs.work import WORK
from nasbench.latency.operator_table import COLUMNS
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

Floats = npt.NDArray[np.float64]

LEAST = 8  # measurements; those that a cross-validation of ten leaves


@dataclass(frozen=True)
class Networks:
    """Descriptions of n networks before they are measured.

    Attributes:
        work: (n, len(WORK)) work of the networks, see `nasbench.costs.work`.
        table: (n, len(COLUMNS)) their latency by measured operators; (n, 0) if none were measured.
        encoding: Encoded architectures, one array (n, d_g) for each of `SearchSpace.feature_groups`; empty without
            them.
    """

    work: Floats
    table: Floats
    encoding: tuple[Floats, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.work)
        widths = self.table.shape[1:] in ((0,), (len(COLUMNS),)) and self.work.shape == (n, len(WORK))
        if not widths or any(len(columns) != n for columns in (self.table, *self.encoding)):
            raise UserError(
                f"networks are described by work (n, {len(WORK)}), a table (n, {len(COLUMNS)}) or (n, 0) and encodings "
                f"(n, d), not by {self.work.shape}, {self.table.shape} and {[group.shape for group in self.encoding]}."
            )

    @classmethod
    def of(cls, space: SearchSpace | None, archs: Sequence[Architecture], work: Floats, table: Floats) -> Networks:
        """Networks of a space; without the space, their encoding stays unknown."""
        return cls(work, table, () if space is None else space.feature_groups(archs))

    def __len__(self) -> int:
        return len(self.work)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> Networks:
        return Networks(self.work[rows], self.table[rows], tuple(group[rows] for group in self.encoding))

    @property
    def priced(self) -> Floats:
        """(n, k) the columns that have a price: the table and the work."""
        return np.hstack([self.table, self.work])


class LatencyPredictor(ABC):
    """Predicts the latency of networks on one device from measurements of others.

    Attributes:
        name: Name as users type it.
        summary: One line for a listing.
        source: Paper of the predictor.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]

    def fit(self, networks: Networks, latency_ms: Floats) -> LatencyPredictor:
        """Fit on measured networks, whose latencies (n,) are in milliseconds; returns the predictor.

        Raises:
            UserError: There are fewer than 8 measurements, one is not a positive number, or something is missing that
                this predictor reads.
        """
        if latency_ms.ndim != 1 or len(latency_ms) < LEAST or len(networks) != len(latency_ms):
            raise UserError(
                f"a latency predictor needs {LEAST} or more measured networks, not {len(networks)} networks with "
                f"latencies {latency_ms.shape}."
            )
        bad = latency_ms[~(np.isfinite(latency_ms) & (latency_ms > 0))]
        if len(bad):
            raise UserError(f"latencies must be positive numbers of milliseconds, not {bad[0]}.")
        self._fit(networks, latency_ms)
        return self

    @abstractmethod
    def predict(self, networks: Networks) -> tuple[Floats, Floats]:
        """Mean and standard deviation in milliseconds, (n,) each, after `fit`."""

    @abstractmethod
    def _fit(self, networks: Networks, latency_ms: Floats) -> None:
        """Fit; the numbers are checked."""


def standardized(columns: Floats, like: Floats) -> Floats:
    """Columns with the mean of `like` taken off, in units of its standard deviations; those that never change are 0."""
    deviation = like.std(axis=0)
    scaled: Floats = (columns - like.mean(axis=0)) / np.where(deviation > 1e-12, deviation, np.inf)
    return scaled


def log_normal(log_mean: Floats, log_variance: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a quantity whose logarithm is normal."""
    mean = np.exp(log_mean + log_variance / 2)
    return mean, mean * np.sqrt(np.expm1(log_variance))
