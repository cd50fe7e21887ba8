"""The candidates that searches are compared by."""

from __future__ import annotations

from collections.abc import Sequence

from nasbench.objectives.reward import broken_limit
from nasbench.search.record import RecordedCandidate, comparable
from nasbench.search.settings import RunSettings


def within_limits(candidates: Sequence[RecordedCandidate], settings: RunSettings) -> list[RecordedCandidate]:
    """The candidates trained for the most epochs that meet every limit, in the order in which they finished."""
    done = comparable(candidates, settings.full_epochs)
    feasible = [
        candidate
        for candidate in done
        if candidate.scores and broken_limit(settings.objectives, candidate.metrics) is None
    ]
    return sorted(feasible, key=lambda candidate: candidate.finished_s)
