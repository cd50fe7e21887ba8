"""Latency predictors: one file each, behind one contract."""

from __future__ import annotations

from nasbench.latency.predictors.boosted_trees import BoostedTrees
from nasbench.latency.predictors.contract import LatencyPredictor, Networks
from nasbench.latency.predictors.gaussian_process import GaussianProcess
from nasbench.latency.predictors.lookup import Lookup
from nasbench.latency.predictors.validation import HeldOut
from nasbench.latency.predictors.work_prices import WorkPrices
from nasbench_registry import one_of

PREDICTORS: dict[str, type[LatencyPredictor]] = {
    "work": WorkPrices,
    "lookup": Lookup,
    "trees": BoostedTrees,
    "gp": GaussianProcess,
}

__all__ = ["PREDICTORS", "HeldOut", "LatencyPredictor", "Networks", "get_predictor"]


def get_predictor(name: str) -> LatencyPredictor:
    """A new predictor of this name; UserError if there is none."""
    return PREDICTORS[one_of("predictor", name, PREDICTORS)]()
