"""Latency predictors: one file each, behind one contract."""

from __future__ import annotations

from nasbench.hardware.predictors.boosted_trees import BoostedTrees
from nasbench.hardware.predictors.contract import LatencyPredictor, Networks
from nasbench.hardware.predictors.gaussian_process import GaussianProcess
from nasbench.hardware.predictors.lookup import Lookup
from nasbench.hardware.predictors.validation import HeldOut
from nasbench.hardware.predictors.work_prices import WorkPrices
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
