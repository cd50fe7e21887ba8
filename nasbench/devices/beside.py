"""Latencies as the calibration has them, on a machine that is another one now: busier, hotter, or throttled.

Predictors are fitted on the quietest moments of many rounds, see `nasbench.devices.rounds`, and limits are decided with
what they say. What is measured later has to be of the same kind: by the median of all its calls a network takes a few
percent more on a calm machine, and many times as long beside other work, a slow network more so than a fast one, for it
is interrupted more often. So it is timed by the same rounds and read from its quietest turns, too. What is left is
slower in every moment, the anchors as well: networks of the calibration that take turns with it. How many times as long
as in the calibration they take now is the slowdown, and it is taken out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nasbench.devices.measure import BESIDE, UNSTABLE, Latency
from nasbench.devices.rounds import quiet_seconds
from nasbench_compression import CompiledModel
from nasbench_compression.timing import PARTS, Ratio, Seconds

Turns = Sequence[Seconds]


@dataclass(frozen=True)
class Anchor:
    """A network whose latency is known.

    Attributes:
        compiled: Network, compiled by the device whose latency is known.
        latency_ms: Latency of the calibration, in milliseconds.
    """

    compiled: CompiledModel
    latency_ms: float


@dataclass(frozen=True)
class Quiet:
    """The milliseconds of a model in its quietest turns.

    Attributes:
        whole: Milliseconds in the quietest turns of the whole run.
        parts: (PARTS,) milliseconds of the parts of the run, as many rounds each.
    """

    whole: float
    parts: Seconds

    @classmethod
    def of(cls, turns: Turns) -> Quiet:
        """The quietest milliseconds in the turns of a run, in the order of their time; six turns at least."""
        parts = np.array_split(np.arange(len(turns)), PARTS)
        return cls(_quiet_ms(turns), np.array([_quiet_ms([turns[index] for index in part]) for part in parts]))

    def over(self, other: Quiet) -> Ratio:
        """The ratio to another one of the same run. Its interval spans the ratios of the parts, and that of the run."""
        ratio, ratios = self.whole / other.whole, self.parts / other.parts
        return Ratio(ratio, min(ratio, float(ratios.min())), max(ratio, float(ratios.max())))


def _quiet_ms(turns: Turns) -> float:
    return 1000 * float(np.median(quiet_seconds(turns)))


def slowdown(anchors: Sequence[tuple[Quiet, float]]) -> Quiet:
    """How many times as long as in the calibration anchors take: the median of what they say, in the run and its parts.

    Args:
        anchors: Quietest milliseconds of each anchor, with those that are known of it.
    """
    whole = float(np.median([quiet.whole / known_ms for quiet, known_ms in anchors]))
    return Quiet(whole, np.median([quiet.parts / known_ms for quiet, known_ms in anchors], axis=0))


def as_calibrated(latencies: Mapping[str, Latency], quiet: Mapping[str, Quiet], slower: Quiet) -> dict[str, Latency]:
    """Latencies with the slowdown taken out.

    Their intervals span the six parts of the run. What the calibration is off by, which is the same for all that is
    measured beside its anchors, they do not hold.

    Args:
        latencies: Latencies of the calls in the quietest turns, by name.
        quiet: Milliseconds of the same models in their quietest turns.
        slower: Slowdown of the anchors.
    """
    scaled = {}
    for name, latency in latencies.items():
        interval = quiet[name].over(slower)
        scaled[name] = dataclasses.replace(
            latency,
            median=interval.ratio,
            p95=latency.p95 / slower.whole,
            iqr=latency.iqr / slower.whole,
            low=interval.low,
            high=interval.high,
            unstable=(interval.high - interval.low) / 2 / interval.ratio > UNSTABLE,
            estimator=BESIDE,
            slowdown=slower.whole,
        )
    return scaled
