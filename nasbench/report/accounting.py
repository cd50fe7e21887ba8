"""What came of the candidates of a search, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nasbench.config import Experiment
from nasbench.evaluation.outcomes import OUTCOMES, SCORED
from nasbench.study import Candidate

PFS_DAY = 1e15 * 86_400  # operations of one petaflop/s-day


def count_outcomes(candidates: Sequence[Candidate], experiment: Experiment) -> list[dict[str, Any]]:
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
                "counts": getattr(getattr(experiment.outcomes, kind, None), "counts", None),
                "seconds": seconds,
            }
        )
    return rows


def compute(
    candidates: Sequence[Candidate], survivors: Sequence[Mapping[str, Any]], workers: int
) -> dict[str, float | None]:
    """Seconds of devices, and training operations of the candidates by the method of counting.

    Operations: 2 per multiply-add, times 3 for the forward and backward pass (Amodei & Hernandez 2018), times images,
    times epochs. What was found in the shared cache was not trained, and counts with the time to find it.
    """
    searching = sum(candidate.seconds for candidate in candidates)
    searching += sum(attempt["seconds"] for candidate in candidates for attempt in candidate.attempts)
    compressing = sum(stage["seconds"] for survivor in survivors for stage in survivor["stages"])
    trained = [candidate for candidate in candidates if not candidate.cached]
    operations = sum(candidate.metrics.get("training_operations", 0.0) for candidate in trained)
    wall = max((candidate.finished_s for candidate in candidates), default=0.0)
    return {
        "device_seconds": searching + compressing,
        "search_device_seconds": searching,
        "compression_device_seconds": compressing,
        "training_seconds": sum(candidate.training_seconds for candidate in trained),
        "utilization": utilization(candidates, workers),
        "wall_seconds": float(np.round(wall + compressing, 3)),
        "search_wall_seconds": wall,
        "pfs_days": operations / PFS_DAY,
    }


def utilization(candidates: Sequence[Candidate], workers: int) -> float | None:
    """Seconds of training in all workers together / (workers x seconds of search); None before the first outcome."""
    wall = max((candidate.finished_s for candidate in candidates), default=0.0)
    spent = sum(candidate.training_seconds for candidate in candidates if not candidate.cached)
    return spent / (workers * wall) if wall else None
