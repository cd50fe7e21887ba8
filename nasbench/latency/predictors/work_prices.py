"""Latency as a sum of what a network does, each kind of work at its own price on this device."""

from __future__ import annotations

from typing import ClassVar

from nasbench.latency.predictors.contract import Floats, LatencyPredictor, Networks
from nasbench.latency.predictors.prices import Prices


class WorkPrices(LatencyPredictor):
    """The kinds of work are those of `nasbench.costs.work.WORK`; see `Prices` for how they get their price.

    The deviation is the scatter of measurements around fits without them, as a share of the mean.

    Attributes:
        prices: Prices after `fit`.
    """

    name: ClassVar[str] = "work"
    summary: ClassVar[str] = "a price for each kind of work: operators, multiply-adds of each kind, values written"
    source: ClassVar[str] = "this project; non-negative least squares of Lawson & Hanson 1974"

    prices: Prices

    def _fit(self, networks: Networks, latency_ms: Floats) -> None:
        self.prices = Prices(networks.work, latency_ms)

    def predict(self, networks: Networks) -> tuple[Floats, Floats]:
        """See `LatencyPredictor`."""
        mean = self.prices.total(networks.work)
        return mean, mean * self.prices.relative_std
