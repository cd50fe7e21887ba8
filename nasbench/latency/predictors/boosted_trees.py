"""Gradient-boosted trees over encodings and work."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nasbench.latency.predictors.contract import Floats, LatencyPredictor, Networks, log_normal
from nasbench.latency.predictors.prices import Prices

BAGS = 5


class BoostedTrees(LatencyPredictor):
    """A sum of prices, and boosted trees for the logarithm of what they are wrong by.

    Friedman 2001 (Greedy function approximation), in the histogram form of scikit-learn. Several boosters, each on a
    bootstrap sample (Breiman 1996, Bagging predictors), are averaged; the deviation is their disagreement, the scatter
    of each measurement around the boosters that did not see it, and what the prices owe to being fitted to it.
    Deviation: the trees correct the prices, since alone they cannot go beyond the latencies that they saw, and rank 100
    networks worse than the prices do.

    Every random choice is fixed, so that a refit on the same measurements is the same predictor.
    """

    name: ClassVar[str] = "trees"
    summary: ClassVar[str] = "prices, corrected by gradient-boosted trees over encodings and work"
    source: ClassVar[str] = "Friedman 2001; scikit-learn HistGradientBoostingRegressor"

    def _fit(self, networks: Networks, latency_ms: Floats) -> None:
        from sklearn.ensemble import HistGradientBoostingRegressor

        self._prices = Prices(networks.priced, latency_ms)
        columns, log_price = self._columns(networks)
        wrong = np.log(latency_ms) - log_price
        n, rng = len(wrong), np.random.default_rng(0)
        self._boosters, unseen, counts = [], np.zeros(n), np.zeros(n)
        for bag in range(BAGS):
            rows = rng.integers(n, size=n)
            booster = HistGradientBoostingRegressor(
                max_iter=80, learning_rate=0.08, max_leaf_nodes=8, min_samples_leaf=5, random_state=bag
            )
            self._boosters.append(booster.fit(columns[rows], wrong[rows]))
            out_of_bag = np.setdiff1d(np.arange(n), rows)
            unseen[out_of_bag] += booster.predict(columns[out_of_bag])
            counts[out_of_bag] += 1
        met = counts > 0
        self._noise = float(np.mean((unseen[met] / counts[met] - wrong[met]) ** 2)) if met.any() else float(wrong.var())

    def predict(self, networks: Networks) -> tuple[Floats, Floats]:
        """See `LatencyPredictor`."""
        columns, log_price = self._columns(networks)
        predictions = np.array([booster.predict(columns) for booster in self._boosters])
        return log_normal(
            log_price + predictions.mean(axis=0), predictions.var(axis=0) + self._noise + self._prices.optimism
        )

    def _columns(self, networks: Networks) -> tuple[Floats, Floats]:
        log_price = self._prices.log_total(networks.priced)
        return np.hstack([networks.priced, *networks.encoding, log_price[:, None]]), log_price
