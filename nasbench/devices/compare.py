"""Several models timed in turn: how much slower one is than another, and whether repeated measurements agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from nasbench.devices.measure import PARTS, Latency
from nasbench_registry import UserError

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """The latency of one model as a multiple of another's, both timed in turn in one run.

    Attributes:
        ratio: below 1 it is faster.
        low: lower end of the 95 % interval.
        high: its upper end.
    """

    ratio: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """What came of timing several models in turn.

    Attributes:
        latencies: by name, over all rounds.
        ratios: to the first model, of every other one.
        rounds: the latencies of each round by itself.
        ratio_rounds: the ratios of each round by itself.
    """

    latencies: Mapping[str, Latency]
    ratios: Mapping[str, Ratio]
    rounds: Mapping[str, Sequence[Latency]]
    ratio_rounds: Mapping[str, Sequence[Ratio]]


def ratio_of(seconds: Seconds, reference: Seconds) -> Ratio:
    """The ratio of two medians, from calls that took turns, and its interval from six parts of the run.

    The ratio of the medians is taken in each part, where both models met the same noise, so that what slows both down
    cancels. As in `median_interval`, the extremes of six ratios cover the true one in 96.9 % of runs if each is as
    likely above it as below; the ratio is their median.

    Args:
        seconds: (n,) of one model, in the order of their time.
        reference: (n,) of the other.

    Raises:
        UserError: they are not of the same number, or fewer than six.
    """
    if len(seconds) != len(reference) or len(seconds) < PARTS:
        raise UserError(
            f"a ratio needs at least {PARTS} calls of each model, and as many of both, not {len(seconds)} and "
            f"{len(reference)}; time them with time_in_turn."
        )
    parts = zip(np.array_split(seconds, PARTS), np.array_split(reference, PARTS), strict=True)
    ratios = [float(np.median(one) / np.median(other)) for one, other in parts]
    return Ratio(float(np.median(ratios)), min(ratios), max(ratios))


def agreement(measured: Sequence[tuple[float, float, float]]) -> float:
    """The share of pairs of measurements of one quantity that differ by no more than their intervals allow.

    Two agree if they are no further apart than the root of the sum of squares of the halves of their intervals that
    face each other; 95 % of pairs do, at least, where intervals are honest and nothing changed in between.

    Args:
        measured: value, lower and upper end of the interval of each.

    Raises:
        UserError: there are fewer than two measurements.
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
