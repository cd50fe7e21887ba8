"""A latency predictor fitted on measured architectures of the space that is searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.stats import spearmanr

from nasbench.hardware.work import WORK
from nasbench_registry import UserError

Floats = npt.NDArray[np.float64]
FOLDS = 5


@dataclass(frozen=True)
class HeldOut:
    """How well latencies are predicted that were not fitted on.

    Attributes:
        spearman: rank correlation.
        median_error_pct: median of |predicted - measured| / measured, in percent.
        n: number of architectures, each of them held out once.
        measured_ms: (n,).
        predicted_ms: (n,), each by a predictor that was fitted without it.
    """

    spearman: float
    median_error_pct: float
    n: int
    measured_ms: Floats
    predicted_ms: Floats


class LatencyPredictor:
    """Latency as a sum of what a network does, each kind of work at its own price on this device.

    The prices are not negative, and relative errors count (non-negative least squares, Lawson & Hanson 1974): a
    model that 30 measurements can support, and that goes on sensibly outside of what was measured. The kinds of work
    are those of `nasbench.hardware.work.WORK`, plus a constant.
    """

    name = "work"

    def __init__(self) -> None:
        self.prices: Floats | None = None
        self.relative_std = float("nan")

    def fit(self, work: Floats, latency_ms: Floats) -> LatencyPredictor:
        """Fit on `work` (n, len(WORK)) and measured latencies (n,) in milliseconds.

        Raises:
            UserError: there are fewer than 10 measurements, or one is not a positive number.
        """
        if len(latency_ms) < 10 or work.shape != (len(latency_ms), len(WORK)):
            raise UserError(
                f"a latency predictor needs 10 or more measurements with {len(WORK)} numbers of work each, "
                f"not work {work.shape} and latency {latency_ms.shape}."
            )
        bad = latency_ms[~(np.isfinite(latency_ms) & (latency_ms > 0))]
        if len(bad):
            raise UserError(f"latencies must be positive numbers of milliseconds, not {bad[0]}.")
        self.prices = _prices(work, latency_ms)
        errors = _with_constant(work) @ self.prices / latency_ms - 1
        self.relative_std = float(np.sqrt((errors**2).sum() / max(1, len(errors) - np.count_nonzero(self.prices))))
        return self

    def predict(self, work: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation in milliseconds, (n,) each, for `work` (n, len(WORK)).

        The deviation is the scatter of the measurements around the fit, as a share of the mean.
        """
        assert self.prices is not None, "fit() comes first"
        mean = _with_constant(work) @ self.prices
        return mean, mean * self.relative_std

    def hold_out(self, work: Floats, latency_ms: Floats, *, seed: int = 0) -> HeldOut:
        """Cross-validate in five parts; each architecture is predicted by a fit without it."""
        order = np.random.default_rng(seed).permutation(len(latency_ms))
        predicted = np.empty(len(latency_ms))
        for part in np.array_split(order, FOLDS):
            rest = np.setdiff1d(order, part)
            predicted[part] = _with_constant(work[part]) @ _prices(work[rest], latency_ms[rest])
        correlation = float(spearmanr(predicted, latency_ms).statistic)
        error = float(np.median(np.abs(predicted - latency_ms) / latency_ms)) * 100
        return HeldOut(correlation, error, len(latency_ms), latency_ms, predicted)


def _prices(work: Floats, latency_ms: Floats) -> Floats:
    columns = _with_constant(work)
    scale = columns.mean(axis=0) + 1e-12
    relative, _ = nnls(columns / scale / latency_ms[:, None], np.ones(len(latency_ms)))
    prices: Floats = relative / scale
    return prices


def _with_constant(work: Floats) -> Floats:
    return np.hstack([work, np.ones((len(work), 1))])


@dataclass(frozen=True)
class Calibration:
    """Measured architectures of a space, and the predictor that they give. JSON in and out, no pickle.

    Attributes:
        architectures: in the notation of the space.
        work: (n, len(WORK)).
        latency_ms: (n,), medians.
        protocol: how they were measured.
    """

    architectures: Sequence[str]
    work: Floats
    latency_ms: Floats
    protocol: Mapping[str, Any]

    def predictor(self) -> LatencyPredictor:
        """A predictor fitted on all measurements."""
        return LatencyPredictor().fit(self.work, self.latency_ms)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {
            "architectures": list(self.architectures),
            "work": {"columns": list(WORK), "rows": self.work.tolist()},
            "latency_ms": self.latency_ms.tolist(),
            "protocol": dict(self.protocol),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """What `to_json` wrote; UserError if it was written for other kinds of work."""
        if tuple(data["work"]["columns"]) != WORK:
            raise UserError(
                f"the stored latency measurements describe {', '.join(data['work']['columns'])}; this version needs "
                f"{', '.join(WORK)}; delete predictor.json to measure again."
            )
        return cls(
            data["architectures"], np.array(data["work"]["rows"]), np.array(data["latency_ms"]), data["protocol"]
        )
