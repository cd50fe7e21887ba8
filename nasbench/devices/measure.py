"""Latency as it is, with the protocol that gave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nasbench_compression.timing import Seconds, half_width, median_interval

UNSTABLE = 0.10  # half-width of the median's interval, relative to the median, above which a measurement is marked

ALL_CALLS, QUIETEST, BESIDE, TOLD = "all calls", "quietest turns", "beside anchors", "told"
ESTIMATORS = {
    ALL_CALLS: "the median of all timed calls, with what other work on the machine cost",
    QUIETEST: "the median of the calls in the quietest twentieth of the turns",
    BESIDE: "the same, timed in turn with networks of the calibration, whose slowdown since then is taken out",
    TOLD: "what the device told",
}
"""Sources of a latency."""


@dataclass(frozen=True)
class Latency:
    """Latency of one batch, in milliseconds, and how it was measured.

    Attributes:
        median: Median of the repeats, or the value of the estimator.
        p95: 95th percentile.
        iqr: Interquartile range.
        low: Lower end of the 95 % interval of the median, see `nasbench_compression.timing.median_interval`.
        high: Upper end of the interval.
        repeats: Number of timed calls.
        warmup: Number of calls before them.
        batch: Images a call.
        threads: Threads of the runtime.
        runtime: Runtime of the network, with its version.
        precision: Precision of its arithmetic.
        device: Name of the processor.
        unstable: Whether the interval of the median stayed wider than 10 % to either side.
        clock: Clock of the processor, see `nasbench.devices.clock`; None if the machine does not say.
        estimator: Source of the numbers: `ALL_CALLS`; the `QUIETEST` turns of many rounds; these, divided by the
            slowdown of anchors that took turns with them (`BESIDE`); or they were `TOLD` by the device.
        slowdown: Factor by which the anchors took longer than in the calibration; None where there were none.
    """

    median: float
    p95: float
    iqr: float
    low: float
    high: float
    repeats: int
    warmup: int
    batch: int
    threads: int
    runtime: str
    precision: str
    device: str
    unstable: bool
    clock: Mapping[str, Any] | None = None
    estimator: str = ALL_CALLS
    slowdown: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    @property
    def throughput_per_s(self) -> float:
        """Images a second, from the median."""
        return 1000 * self.batch / self.median


def summarise(
    seconds: Seconds,
    *,
    warmup: int,
    batch: int,
    threads: int,
    runtime: str,
    precision: str,
    device: str,
    clock: Mapping[str, Any] | None = None,
    estimator: str = ALL_CALLS,
) -> Latency:
    """The latency in timed calls, which are in the order of their time."""
    values = seconds * 1000
    low, high = median_interval(values)
    quartiles = np.percentile(values, [25, 75])
    return Latency(
        median=float(np.median(values)),
        p95=float(np.percentile(values, 95)),
        iqr=float(quartiles[1] - quartiles[0]),
        low=low,
        high=high,
        repeats=len(values),
        warmup=warmup,
        batch=batch,
        threads=threads,
        runtime=runtime,
        precision=precision,
        device=device,
        unstable=half_width(values) > UNSTABLE,
        clock=clock,
        estimator=estimator,
    )
