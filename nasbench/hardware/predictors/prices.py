"""Latency as a sum: every column has a price on this device, and a call has one of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

Floats = npt.NDArray[np.float64]


class Prices:
    """Prices that are not negative, such that relative errors are least (Lawson & Hanson 1974, Solving Least Squares).

    A model that 30 measurements can support, and that goes on sensibly outside of what was measured.

    Args:
        columns: (n, k), each zero or more.
        latency_ms: (n,).

    Attributes:
        values: (k + 1,) milliseconds for one of each column, and for a call.
        relative_std: scatter of the measurements around the fit, as a share of it.
    """

    def __init__(self, columns: Floats, latency_ms: Floats) -> None:
        full = _with_constant(columns)
        scale = full.mean(axis=0) + 1e-12
        relative, _ = nnls(full / scale / latency_ms[:, None], np.ones(len(latency_ms)))
        self.values: Floats = relative / scale
        errors = full @ self.values / latency_ms - 1
        free = max(1, len(errors) - np.count_nonzero(self.values))
        self.relative_std = float(np.sqrt((errors**2).sum() / free))

    def total(self, columns: Floats) -> Floats:
        """(n,) milliseconds of columns (n, k)."""
        sums: Floats = _with_constant(columns) @ self.values
        return sums


def _with_constant(columns: Floats) -> Floats:
    return np.hstack([columns, np.ones((len(columns), 1))])
