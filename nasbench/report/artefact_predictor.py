"""Predicted and measured latencies of artefacts of a search over recipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nasbench.evaluators.compressed.latency import LEAST, REFIT
from nasbench.objectives.statistics import rank_correlation
from nasbench.report import units
from nasbench.search.record import RecordedCandidate

NAME, WHAT = "gp", "artefact"
PROTOCOL = (
    f"artefacts of the search, each predicted before it was made from those that were measured before it, by a "
    f"Gaussian process from the {LEAST}th on, fitted again with every {REFIT} further ones. The guess ends a candidate "
    f"whose latency is over a limit beyond doubt, and is then never compared with a measurement"
)


def artefact_predictor(candidates: Sequence[RecordedCandidate]) -> dict[str, Any] | None:
    """Predicted and measured latencies of the candidates that have both, in the shape of a predictor of networks.

    Returns:
        What `report["predictor"]` holds; None if no candidate has both. `spearman` is None for fewer than three, or
        where either is constant; `coverage_pct` is None, for the search keeps no deviation.
    """
    pairs = [
        (candidate.metrics["latency_ms"], candidate.metrics["latency_predicted_ms"])
        for candidate in candidates
        if {"latency_ms", "latency_predicted_ms"} <= set(candidate.metrics)
    ]
    if not pairs:
        return None
    measured, predicted = np.array(pairs, dtype=np.float64).T
    errors_pct = 100 * np.abs(predicted / measured - 1)
    ranked = len(pairs) > 2 and np.ptp(measured) > 0 and np.ptp(predicted) > 0
    return {
        "name": NAME,
        "what": WHAT,
        "spearman": units.number(rank_correlation(measured, predicted)) if ranked else None,
        "median_error_pct": float(np.median(errors_pct)),
        "within_10_pct": float(100 * np.mean(errors_pct <= 10)),
        "coverage_pct": None,
        "n": len(pairs),
        "protocol": PROTOCOL,
        "measured_ms": measured.tolist(),
        "predicted_ms": predicted.tolist(),
        "chosen": [],
        "unsure": [],
    }
