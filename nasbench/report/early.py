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
    found: dict[str, list[RecordedCandidate]] = {name: [] for name in ENDINGS}
    for each in candidates:
        if each.status == "infeasible":
            found[each.ending or _guessed(each)].append(each)
    return [
        {
            "stage": stage,
            "count": len(ended),
            "seconds": sum(each.seconds for each in ended),
            "candidates": [each.id for each in ended],
        }
        for stage, ended in found.items()
        if ended
    ]


def _guessed(candidate: RecordedCandidate) -> str:
    """The stage, if an evaluator of a user or an earlier version left it open."""
    return "after training" if "train_loss" in candidate.metrics else "before training"
