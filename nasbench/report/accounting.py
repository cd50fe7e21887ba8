"""Outcomes of the candidates of a search, and their costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nasbench.costs.compute import ASSUMED_UTILIZATION, Compute, compute_by_time
from nasbench.evaluators.outcomes import OUTCOMES, SCORED
from nasbench.search.config import ExecutorConfig, OutcomesConfig
from nasbench.search.record import RecordedCandidate, search_seconds, utilization


def count_outcomes(candidates: Sequence[RecordedCandidate], outcomes: OutcomesConfig) -> list[dict[str, Any]]:
    """A row for each kind of outcome, also for those that did not occur.

    `seconds` of a kind are those of the candidates that ended with it and of the attempts that did; all kinds together
    are what the search spent.
    """
    rows = []
    for kind, meaning in OUTCOMES.items():
        ended = [candidate for candidate in candidates if candidate.status == kind]
        retried = [
            (candidate, attempt)
            for candidate in candidates
            for attempt in candidate.attempts
            if attempt["status"] == kind
        ]
        recovered = {candidate.id for candidate, _ in retried if candidate.status in SCORED}
        seconds = sum(candidate.seconds for candidate in ended) + sum(attempt["seconds"] for _, attempt in retried)
        rows.append(
            {
                "kind": kind,
                "count": len(ended),
                "meaning": meaning,
                "retries": len(retried),
                "recovered": len(recovered),
                "counts": getattr(getattr(outcomes, kind, None), "counts", None),
                "seconds": seconds,
            }
        )
    return rows


def compute(
    candidates: Sequence[RecordedCandidate],
    survivors: Sequence[Mapping[str, Any]],
    executor: ExecutorConfig,
    peak: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Seconds of devices, and the compute of training the candidates by both methods of `nasbench.costs.compute`.

    What was found in the shared cache was not trained, and counts with the time to find it.

    Args:
        candidates: Candidates of the search.
        survivors: Survivors with their stages.
        executor: Resources of a candidate: a share of GPUs, or threads of a CPU, which are one device together.
        peak: Peak of that device, as `nasbench.experiment.peak_compute` stores it; None if it was not measured.
    """
    searching = sum(candidate.seconds for candidate in candidates)
    searching += sum(attempt["seconds"] for candidate in candidates for attempt in candidate.attempts)
    compressing = sum(stage["seconds"] for survivor in survivors for stage in survivor["stages"])
    trained = [candidate for candidate in candidates if not candidate.cached]
    counted = Compute(sum(candidate.metrics.get("training_operations", 0.0) for candidate in trained))
    training_s = sum(candidate.training_seconds for candidate in trained)
    devices_s = training_s * (executor.gpus or 1)
    flops_per_s = (peak or {}).get("flops_per_s")
    possible = devices_s * flops_per_s if flops_per_s else None
    wall = search_seconds(candidates)
    return {
        "device_seconds": searching + compressing,
        "search_device_seconds": searching,
        "compression_device_seconds": compressing,
        "training_seconds": training_s,
        "utilization": utilization(candidates, executor.workers),
        "wall_seconds": float(np.round(wall + compressing, 3)),
        "search_wall_seconds": wall,
        "operations": counted.operations,
        "pfs_days": counted.pfs_days,
        "training_device_seconds": devices_s,
        "peak": None if peak is None else dict(peak),
        "assumed_utilization": ASSUMED_UTILIZATION,
        "pfs_days_by_time": compute_by_time(devices_s, flops_per_s).pfs_days if flops_per_s else None,
        "measured_utilization": counted.operations / possible if possible else None,
    }
