"""Latencies that somebody else measured."""

from __future__ import annotations

import math

from nasbench.hardware.measure import Latency

UNKNOWN = math.nan
"""A number of the protocol that was not told; JSON null."""


def told_latency(
    median_ms: float,
    *,
    batch: int,
    threads: int,
    runtime: str,
    device: str,
    precision: str = "fp32",
    p95_ms: float = UNKNOWN,
    iqr_ms: float = UNKNOWN,
    repeats: int = 0,
) -> Latency:
    """A latency of which no calls are known, only numbers in milliseconds; what is not known is NaN."""
    return Latency(
        median=median_ms,
        p95=p95_ms,
        iqr=iqr_ms,
        low=UNKNOWN,
        high=UNKNOWN,
        repeats=repeats,
        warmup=0,
        batch=batch,
        threads=threads,
        runtime=runtime,
        precision=precision,
        device=device,
        unstable=False,
    )
