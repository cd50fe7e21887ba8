"""Mean and spread of a few repetitions, in words."""

from __future__ import annotations

from nasbench.objectives.statistics import Spread


def text(spread: Spread | None, decimals: int, *, factor: float = 1.0) -> str:
    """Mean and standard deviation for people, ``1.25 +- 0.03``, times a factor that changes their unit."""
    if spread is None:
        return "-"
    mean = f"{factor * spread.mean:,.{decimals}f}"
    return mean if spread.std is None else f"{mean} +- {factor * spread.std:,.{decimals}f}"
