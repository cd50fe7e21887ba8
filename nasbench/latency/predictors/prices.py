"""Latency as a sum: every column has a price on this device, and a call has one of its own."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PARTS = 10


class Prices:
    """Prices that are not negative, such that relative errors are least (Lawson & Hanson 1974, Solving Least Squares).

    A model that 30 measurements can support, and that goes on sensibly outside of what was measured.

    Args:
        columns: (n, k) columns, each zero or more.
        latency_ms: (n,) measured latencies in milliseconds.

    Attributes:
        values: (k + 1,) milliseconds for one of each column, and for a call.
        relative_std: Scatter of the measurements around totals by prices that were fitted without them, in ten parts,
            as a share. Many prices can meet few networks exactly, so the errors of the fit itself say little.
        optimism: Difference between the variance `relative_std ** 2` and that of the fit's own relative errors.
    """

    def __init__(self, columns: Floats, latency_ms: Floats) -> None:
        full = _with_constant(columns)
        self.values = _fitted(full, latency_ms)
        left_out = np.empty(len(full))
        for part, rest in folds(len(full), PARTS, seed=0):
            left_out[part] = full[part] @ _fitted(full[rest], latency_ms[rest])
        variance = float(np.mean((left_out / latency_ms - 1) ** 2))
        self.relative_std = math.sqrt(variance)
        self.optimism = max(0.0, variance - float(np.mean((full @ self.values / latency_ms - 1) ** 2)))

    def total(self, columns: Floats) -> Floats:
        """(n,) milliseconds of columns (n, k)."""
        sums: Floats = _with_constant(columns) @ self.values
        return sums

    def log_total(self, columns: Floats) -> Floats:
        """(n,) logarithms of these totals."""
        logs: Floats = np.log(np.maximum(self.total(columns), 1e-9))
        return logs


def _fitted(full: Floats, latency_ms: Floats) -> Floats:
    from scipy.optimize import nnls  # half a second, in every process that reads a calibration

    scale = full.mean(axis=0) + 1e-12
    relative, _ = nnls(full / scale / latency_ms[:, None], np.ones(len(latency_ms)))
    prices: Floats = relative / scale
    return prices


def _with_constant(columns: Floats) -> Floats:
    return np.hstack([columns, np.ones((len(columns), 1))])


def folds(n: int, parts: int, *, seed: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """The row numbers of each part of a cross-validation of n rows, and those of the rest."""
    order = np.random.default_rng(seed).permutation(n)
    return [(part, np.setdiff1d(order, part)) for part in np.array_split(order, parts)]
