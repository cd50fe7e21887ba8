"""Mean, spread and standard error of a few repetitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """A quantity that was measured several times.

    Attributes:
        mean: of the values.
        std: standard deviation, with n - 1; None for a single value.
        n: how many values.
    """

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """The spread of those values that are there; None if none is."""
        there = [value for value in values if value is not None]
        if not there:
            return None
        return cls(float(np.mean(there)), float(np.std(there, ddof=1)) if len(there) > 1 else None, len(there))

    @property
    def standard_error(self) -> float | None:
        """Of the mean; None for a single value."""
        return None if self.std is None else self.std / math.sqrt(self.n)


def text(spread: Spread | None, decimals: int, *, factor: float = 1.0) -> str:
    """Mean and standard deviation for people, ``1.25 +- 0.03``, times a factor that changes their unit."""
    if spread is None:
        return "-"
    mean = f"{factor * spread.mean:,.{decimals}f}"
    return mean if spread.std is None else f"{mean} +- {factor * spread.std:,.{decimals}f}"
