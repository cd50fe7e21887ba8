"""The latency predictors by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasbench_registry import Entries, one_of

if TYPE_CHECKING:
    from nasbench.latency.predictors.contract import LatencyPredictor

PREDICTORS: Entries[type[LatencyPredictor]] = Entries(
    {
        "work": "nasbench.latency.predictors.work_prices:WorkPrices",
        "lookup": "nasbench.latency.predictors.lookup:Lookup",
        "trees": "nasbench.latency.predictors.boosted_trees:BoostedTrees",
        "gp": "nasbench.latency.predictors.gaussian_process:GaussianProcess",
    }
)


def get_predictor(name: str) -> LatencyPredictor:
    """A new predictor of this name; UserError if there is none."""
    return PREDICTORS[one_of("predictor", name, PREDICTORS)]()
