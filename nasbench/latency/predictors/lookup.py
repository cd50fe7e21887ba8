"""Latency as a sum over a table of measured operators."""

from __future__ import annotations

from typing import ClassVar

from nasbench.latency.predictors.contract import Floats, LatencyPredictor, Networks
from nasbench.latency.predictors.prices import Prices
from nasbench_registry import UserError


class Lookup(LatencyPredictor):
    """The milliseconds of each convolution and linear layer alone, added up, and a price for all other work.

    Cai et al. 2019 (ProxylessNAS, arXiv 1812.00332) and Wu et al. 2019 (FBNet, arXiv 1812.03443) add up blocks as they
    are measured. Deviations: entries are operators, so that any space has them; and the sum is corrected by prices that
    are fitted on whole networks, one for each kind of operator, since an operator between others takes less than it
    does alone, where its images come in and go out in another layout; all other work has prices, too, see `WORK`.
    """

    name: ClassVar[str] = "lookup"
    summary: ClassVar[str] = "a table of measured convolutions and linear layers, and a price for the rest"
    source: ClassVar[str] = "Cai et al. 2019, arXiv 1812.00332; Wu et al. 2019, arXiv 1812.03443"

    prices: Prices

    def _fit(self, networks: Networks, latency_ms: Floats) -> None:
        if not networks.table.shape[1]:
            raise UserError(
                "predictor 'lookup' needs measured operators, and none were measured; use a device that times them, "
                "such as cpu, or another predictor."
            )
        self.prices = Prices(networks.priced, latency_ms)

    def predict(self, networks: Networks) -> tuple[Floats, Floats]:
        """See `LatencyPredictor`."""
        mean = self.prices.total(networks.priced)
        return mean, mean * self.prices.relative_std
