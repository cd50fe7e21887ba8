"""Latencies as they were in the calibration, on a machine that has other work now.

Predictors are fitted on the quietest moments of many rounds, see `nasbench.devices.rounds`, and limits are decided with
what they say. What is measured later has to be of the same kind: by the median of its calls a network takes a few
percent more on a calm machine, and half as much again beside other work. So it takes turns with anchors, networks of
the calibration. How many times as long as then they take now is the slowdown of the machine, and of the network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nasbench.devices.measure import BESIDE, UNSTABLE, Latency
from nasbench_compression import CompiledModel
from nasbench_compression.timing import Seconds, part_ratios


@dataclass(frozen=True)
class Anchor:
    """A network whose latency is known.

    Attributes:
        compiled: by the device that it is known of.
        latency_ms: of the calibration.
    """

    compiled: CompiledModel
    latency_ms: float


def as_if_quiet(plain: Latency, seconds: Seconds, anchors: Sequence[tuple[Seconds, float]]) -> Latency:
    """A latency with the slowdown taken out.

    Each anchor says the latency as its own known one times a ratio, and the median of what they say is taken. The
    interval is that of six parts of the run, as for any ratio of calls that took turns; what the calibration is off by,
    which is the same for all that is measured beside its anchors, it does not hold.

    Args:
        plain: of all calls.
        seconds: (n,) of the calls.
        anchors: (n,) seconds of each anchor, which took turns with them, and the milliseconds that are known of it.
    """
    parts = np.median([known_ms * part_ratios(seconds, taken) for taken, known_ms in anchors], axis=0)
    median, low, high = float(np.median(parts)), float(parts.min()), float(parts.max())
    slowdown = plain.median / median
    return dataclasses.replace(
        plain,
        median=median,
        p95=plain.p95 / slowdown,
        iqr=plain.iqr / slowdown,
        low=low,
        high=high,
        unstable=(high - low) / 2 / median > UNSTABLE,
        estimator=BESIDE,
        slowdown=slowdown,
    )
