"""Numbers as the report writes them: three digits that matter, a unit, and one text for what was not measured."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from numbers import Real
from typing import Any

MISSING = "\N{EN DASH}"
METRICS = {
    "val_acc_pct": ("validation accuracy", "%"),
    "test_acc_pct": ("test accuracy", "%"),
    "latency_ms": ("latency", "ms"),
    "throughput_per_s": ("throughput", "1/s"),
    "macs": ("MACs", ""),
    "params": ("parameters", ""),
    "size_bytes": ("size", "bytes"),
    "peak_memory_bytes": ("peak memory", "bytes"),
    "energy_mj": ("energy", "mJ"),
    "ram_bytes": ("RAM of a microcontroller", "bytes"),
    "flash_bytes": ("flash of a microcontroller", "bytes"),
    "val_miou_pct": ("validation mean IoU", "%"),
    "test_miou_pct": ("test mean IoU", "%"),
    "val_pixel_acc_pct": ("validation accuracy of pixels", "%"),
    "test_pixel_acc_pct": ("test accuracy of pixels", "%"),
    "val_rmse": ("validation RMSE", ""),
    "test_rmse": ("test RMSE", ""),
    "val_mae": ("validation mean absolute error", ""),
    "test_mae": ("test mean absolute error", ""),
    "val_r2": ("validation R2", ""),
    "test_r2": ("test R2", ""),
    "val_loss": ("validation loss", ""),
    "train_loss": ("training loss", ""),
}

WORTH = {"images_per_dollar": "images/$", "images_per_joule": "images/J"}
"""Metrics that follow from a throughput and a price or a counter of energy, with the heads of columns."""


def number(value: object) -> float | None:
    """The value as a finite float; None for everything that is not one (None, NaN, infinity, text, a bool)."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return float(value) if math.isfinite(value) else None


def median_ms(latency: object) -> float | None:
    """The median of a stage's latency, or the number itself where a candidate has just one."""
    return number(latency.get("median")) if isinstance(latency, Mapping) else number(latency)


def words(metric: str) -> str:
    """A metric in words; its own name where it is not one of the framework's."""
    return METRICS.get(metric, (metric, ""))[0]


def unit(metric: str) -> str:
    """The unit of a metric; empty where it has none, or is not one of the framework's."""
    return METRICS.get(metric, ("", ""))[1]


def label(metric: str) -> str:
    """The axis title of a metric; its own name where it is not one of the framework's."""
    return ", ".join(part for part in (words(metric), unit(metric)) if part)


def in_percent(metric: str) -> bool:
    """Whether a metric is a share, whose differences are given in points: ours, and any that is named so."""
    return METRICS.get(metric, ("", "%" if metric.endswith("_pct") else ""))[1] == "%"


def quality_text(value: float | None, metric: str, *, unit: bool = True) -> str:
    """A value of the quality of a problem: two decimals of percent, else three digits that matter."""
    if value is None or not in_percent(metric):
        return significant(value)
    return f"{value:.2f} %" if unit else f"{value:.2f}"


def quality_change(now: float | None, before: float | None, metric: str) -> str:
    """The difference of two values of the quality: in points where it is in percent, else in percent; else empty."""
    return points(now, before) if in_percent(metric) else relative(now, before)


def column(metric: str) -> str:
    """The head of a column of a table on a terminal: `val %` of an accuracy, else the name of the metric."""
    return metric.replace("_acc_pct", " %") if metric in ("val_acc_pct", "test_acc_pct") else metric


def significant(value: float | None) -> str:
    """Three significant digits, never in scientific notation: 0.00412, 0.612, 12.3, 1,234."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(decimals, 9)}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def percentage(value: float | None) -> str:
    """An accuracy in percent, without the sign, which stands in the heading."""
    return MISSING if value is None else f"{value:.2f}"


def count(value: float | None) -> str:
    """Parameters, MACs and operations: 950, 12.3 k, 1.24 M, 3.10 G, 5.10 T."""
    if value is None:
        return MISSING
    for factor, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{significant(value / factor)} {suffix}"
    return f"{value:.0f}"


def size_unit(size_bytes: float) -> tuple[float, str]:
    """The divisor and the name of the unit that suits a size."""
    return (2.0**20, "MiB") if size_bytes >= 2**20 else (2.0**10, "KiB")


def size(value: float | None) -> str:
    """Bytes in KiB, or in MiB from one MiB on."""
    if value is None:
        return MISSING
    divisor, unit = size_unit(value)
    return f"{significant(value / divisor)} {unit}"


def duration(seconds: float | None) -> str:
    """Seconds below two minutes, minutes below two hours, then hours."""
    if seconds is None:
        return MISSING
    if seconds < 120:
        return f"{significant(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def outcome(kind: str) -> str:
    """A kind of outcome as people write it."""
    return "stopped early" if kind == "stopped" else kind.replace("_", " ")


def signed(value: float, decimals: int) -> str:
    """A difference with its sign; zero has none."""
    text = f"{value:+.{decimals}f}"
    return f"{0:.{decimals}f}" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def points(now: float | None, before: float | None) -> str:
    """The difference of two percentages in percentage points; empty where one is unknown."""
    return "" if now is None or before is None else signed(now - before, 2)


def relative(now: float | None, before: float | None) -> str:
    """The relative change in percent; empty where one of the two is unknown."""
    if now is None or not before:
        return ""
    change = 100 * (now - before) / before
    return f"{signed(change, 1 if abs(change) < 10 else 0)} %"


def times(now: float | None, before: float | None, better: str, worse: str, same: str) -> str:
    """A ratio in words, ``2.3 times faster``; empty where a number is missing."""
    if not now or not before or min(now, before) < 0:
        return ""
    ratio = before / now
    if abs(ratio - 1) < 0.005:
        return same
    word, ratio = (better, ratio) if ratio > 1 else (worse, 1 / ratio)
    return f"{ratio:.{2 if ratio < 2 else 1 if ratio < 10 else 0}f} times {word}"


def comparable(latency: Mapping[str, Any] | None, reference: Mapping[str, Any] | None) -> bool:
    """Whether two latencies have the same batch, threads, device and estimator, so that their ratio says something."""
    if not isinstance(latency, Mapping) or not isinstance(reference, Mapping):
        return False
    return all(latency.get(key) == reference.get(key) for key in ("batch", "threads", "device", "estimator"))


def shorten(text: str, width: int = 72) -> str:
    """The text with its middle left out where it is longer than ``width`` characters."""
    if len(text) <= width:
        return text
    tail = width // 3
    return f"{text[: width - tail - 1]}\N{HORIZONTAL ELLIPSIS}{text[-tail:]}"


def lines(text: str, width: int = 44) -> list[str]:
    """The text cut into lines for a hover label, which does not wrap by itself."""
    return textwrap.wrap(text, width) or [""]
