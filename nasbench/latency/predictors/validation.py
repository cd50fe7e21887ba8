"""How well latencies are predicted that a predictor was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nasbench.latency.predictors.contract import LatencyPredictor, Networks
from nasbench.latency.predictors.prices import folds
from nasbench.objectives.statistics import (
    TWO_SIGMAS,
    bootstrap_interval,
    bootstrap_rows,
    rank_correlation,
    rank_correlations,
)

Floats = npt.NDArray[np.float64]

FOLDS = 5


@dataclass(frozen=True)
class HeldOut:
    """Predictions of networks that were measured and not fitted on.

    Attributes:
        measured_ms: (n,) measured latencies in milliseconds.
        predicted_ms: (n,) predicted latencies in milliseconds.
        std_ms: (n,) standard deviations that came with the predictions.
    """

    measured_ms: Floats
    predicted_ms: Floats
    std_ms: Floats

    @property
    def n(self) -> int:
        """Number of networks."""
        return len(self.measured_ms)

    @property
    def spearman(self) -> float:
        """Rank correlation."""
        return rank_correlation(self.measured_ms, self.predicted_ms)

    @property
    def median_error_pct(self) -> float:
        """Median of |predicted - measured| / measured, in percent."""
        return 100 * float(np.median(self._errors))

    @property
    def within_10_pct(self) -> float:
        """Share of networks whose error is at most 10 % of what was measured, in percent."""
        return 100 * float(np.mean(self._errors <= 0.1))

    @property
    def coverage_pct(self) -> float:
        """Share of networks that were measured inside of the 95 % interval of their prediction, in percent."""
        return 100 * float(np.mean(self._deviations <= TWO_SIGMAS))

    @property
    def _errors(self) -> Floats:
        errors: Floats = np.abs(self.predicted_ms / self.measured_ms - 1)
        return errors

    @property
    def _deviations(self) -> Floats:
        deviations: Floats = np.abs(self.measured_ms - self.predicted_ms) / np.maximum(self.std_ms, 1e-12)
        return deviations

    def scale(self) -> float:
        """The factor of the deviations by which 95 % of networks lie inside of their intervals.

        The quantile of the absolute residuals in units of the deviation, as in conformal prediction (Lei et al. 2018,
        Distribution-free predictive inference for regression), with its correction for few networks.
        """
        rank = min(self.n, math.ceil(0.95 * (self.n + 1)))
        return float(np.sort(self._deviations)[rank - 1]) / TWO_SIGMAS

    def scaled(self, factor: float | Floats) -> HeldOut:
        """The same with other deviations."""
        return HeldOut(self.measured_ms, self.predicted_ms, factor * self.std_ms)

    def subset(self, rows: npt.NDArray[np.int64]) -> HeldOut:
        """Some of the networks, also several times."""
        return HeldOut(self.measured_ms[rows], self.predicted_ms[rows], self.std_ms[rows])

    def figures(self, *, seed: int = 0) -> dict[str, dict[str, float]]:
        """Every figure of merit with its 95 % interval, by the bootstrap over networks (Efron 1979)."""
        drawn = bootstrap_rows(self.n, seed=seed)
        errors = self._errors[drawn]
        draws = {
            "spearman": rank_correlations(self.measured_ms[drawn], self.predicted_ms[drawn]),
            "median_error_pct": 100 * np.median(errors, axis=1),
            "within_10_pct": 100 * np.mean(errors <= 0.1, axis=1),
            "coverage_pct": 100 * np.mean(self._deviations[drawn] <= TWO_SIGMAS, axis=1),
        }
        figures = {}
        for name, values in draws.items():
            low, high = bootstrap_interval(values)  # a draw that holds one network alone has no ranks
            figures[name] = {"value": float(getattr(self, name)), "low": low, "high": high}
        return figures


def cross_validate(
    make: Callable[[], LatencyPredictor], networks: Networks, latency_ms: Floats, *, seed: int = 0
) -> HeldOut:
    """Each network is predicted by a fit without it; in five parts.

    Args:
        make: Function that gives a new predictor.
        networks: Networks that were measured.
        latency_ms: (n,) latency of each network in milliseconds.
        seed: Random seed of the parts.

    Returns:
        The predictions; their deviations are as the predictors give them.
    """
    predicted, std = np.empty(len(latency_ms)), np.empty(len(latency_ms))
    for part, rest in folds(len(latency_ms), FOLDS, seed=seed):
        fitted = make().fit(networks[rest], latency_ms[rest])
        predicted[part], std[part] = fitted.predict(networks[part])
    return HeldOut(latency_ms, predicted, std)


def calibrated(held_out: HeldOut, *, seed: int = 0) -> HeldOut:
    """The deviations in each part multiplied by the `scale` that the other parts give.

    So the coverage is that of networks on which neither the predictor nor the scale was fitted.
    """
    factors = np.empty(held_out.n)
    for part, rest in folds(held_out.n, FOLDS, seed=seed):
        factors[part] = held_out.subset(rest).scale()
    return held_out.scaled(factors)


def best(candidates: Mapping[str, HeldOut]) -> str:
    """The name of the one with the highest rank correlation; of equal ones, that with the smaller median error."""
    return max(candidates, key=lambda name: (candidates[name].spearman, -candidates[name].median_error_pct))
