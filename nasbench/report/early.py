"""At which stage candidates that break a limit, or are among the worst, were ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasbench.evaluators.outcomes import ENDINGS
from nasbench.search.record import RecordedCandidate


def early_ends(candidates: Sequence[RecordedCandidate]) -> list[dict[str, Any]]:
    """A row for each stage that ended candidates as infeasible, in the order in which they come.

    Returns:
        `stage`, `count`, `seconds` that their evaluations took, and `candidates`, their numbers.
    """
    by_stage: dict[str, list[RecordedCandidate]] = {name: [] for name in ENDINGS}
    for candidate in candidates:
        if candidate.status == "infeasible":
            by_stage[candidate.ending or _guessed(candidate)].append(candidate)
    return [
        {
            "stage": stage,
            "count": len(ended),
            "seconds": sum(candidate.seconds for candidate in ended),
            "candidates": [candidate.id for candidate in ended],
        }
        for stage, ended in by_stage.items()
        if ended
    ]


def _guessed(candidate: RecordedCandidate) -> str:
    """The stage, if an evaluator of a user's left it open."""
    return "after training" if "train_loss" in candidate.metrics else "before training"
