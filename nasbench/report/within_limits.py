"""The candidates that searches are compared by."""

from __future__ import annotations

from collections.abc import Sequence

from nasbench.objectives.reward import broken_limit
from nasbench.search.record import RecordedCandidate, comparable
from nasbench.search.settings import RunSettings


def within_limits(candidates: Sequence[RecordedCandidate], settings: RunSettings) -> list[RecordedCandidate]:
    """Those that were trained for the most epochs and meet every limit, in the order in which they finished."""
    done = comparable(candidates, settings.full_epochs)
    fine = [each for each in done if each.scores and broken_limit(settings.objectives, each.metrics) is None]
    return sorted(fine, key=lambda each: each.finished_s)
