"""At which stage candidates that break a limit, or are among the worst, were ended."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nasbench.study import Candidate

STAGES: dict[str, str] = {
    "predicted latency": r"predicted beyond doubt",
    "zero-cost proxy": r"proxy_score \S+ is below",
    "short training": r"short_val_acc_pct \S+ is below",
    "training, before compression": r"before compression: ",
    "recipe": r"the recipe does not fit: ",
    "artefact": r"of the artefact: ",
}
"""Of a search over recipes, from cheap to expensive, with how their reasons begin."""

BEFORE, AFTER = "before training", "after training"  # of a search over architectures


def early_ends(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """A row for each stage that ended candidates as infeasible, in the order in which they come.

    Returns:
        `stage`, `count`, `seconds` that their evaluations took, and `candidates`, their numbers.
    """
    found: dict[str, list[Candidate]] = {name: [] for name in (*STAGES, BEFORE, AFTER)}
    for each in candidates:
        if each.status == "infeasible":
            found[_stage(each.error or "", each.metrics)].append(each)
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


def _stage(reason: str, metrics: Mapping[str, float]) -> str:
    named = next((name for name, pattern in STAGES.items() if re.match(pattern, reason)), None)
    return named or (AFTER if "train_loss" in metrics else BEFORE)
