"""Several models timed in turn: how much slower one is than another, and whether repeated measurements agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nasbench.devices.measure import Latency
from nasbench_compression.timing import Ratio
from nasbench_registry import UserError


@dataclass(frozen=True)
class Comparison:
    """The result of timing several models in turn.

    Attributes:
        latencies: Latencies by name, over all rounds.
        ratios: Ratio of every other model to the first one.
        rounds: Latencies of each round by itself.
        ratio_rounds: Ratios of each round by itself.
    """

    latencies: Mapping[str, Latency]
    ratios: Mapping[str, Ratio]
    rounds: Mapping[str, Sequence[Latency]]
    ratio_rounds: Mapping[str, Sequence[Ratio]]

    @classmethod
    def once(cls, latencies: Mapping[str, Latency], ratios: Mapping[str, Ratio]) -> Comparison:
        """The comparison of a single round."""
        return cls(
            latencies,
            ratios,
            {name: [latency] for name, latency in latencies.items()},
            {name: [ratio] for name, ratio in ratios.items()},
        )


def agreement(measured: Sequence[tuple[float, float, float]]) -> float:
    """The share of pairs of measurements of one quantity that differ by no more than their intervals allow.

    Two agree if they are no further apart than the root of the sum of squares of the halves of their intervals that
    face each other; 95 % of pairs do, at least, where intervals are honest and nothing changed in between.

    Args:
        measured: Value, lower and upper end of the interval of each measurement.

    Raises:
        UserError: There are fewer than two measurements.
    """
    if len(measured) < 2:
        raise UserError(f"agreement needs two measurements or more, not {len(measured)}; measure in more rounds.")
    return float(
        np.mean(
            [
                larger - smaller <= math.hypot(high - smaller, larger - low)
                for (smaller, _, high), (larger, low, _) in combinations(sorted(measured), 2)
            ]
        )
    )
