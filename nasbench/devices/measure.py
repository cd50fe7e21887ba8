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
"""What a latency is read from."""


@dataclass(frozen=True)
class Latency:
    """Latency of one batch, in milliseconds, and how it was measured.

    Attributes:
        median: of the repeats, or what the estimator makes of it.
        p95: 95th percentile.
        iqr: interquartile range.
        low: lower end of the 95 % interval of the median, see `nasbench_compression.timing.median_interval`.
        high: its upper end.
        repeats: timed calls.
        warmup: calls before them.
        batch: images a call.
        threads: threads of the runtime.
        runtime: what ran the network, with its version.
        precision: of its arithmetic.
        device: the name of the processor.
        unstable: whether the interval of the median stayed wider than 10 % to either side.
        clock: what governs the clock of the processor, see `nasbench.devices.clock`; None if the machine does not say.
        estimator: what the numbers are read from: `ALL_CALLS`; the `QUIETEST` turns of many rounds; these, divided by
            the slowdown of anchors that took turns with them (`BESIDE`); or they were `TOLD` by the device.
        slowdown: how many times as long as in the calibration the anchors took; None where there were none.
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
