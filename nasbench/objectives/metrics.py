"""The metrics of a candidate that this project gives: their names, units and meaning. The unit is in the name.

Names are open: an evaluator of the user's own may give any others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Metrics = Mapping[str, float]
Goal = Literal["max", "min"]


@dataclass(frozen=True)
class Metric:
    """The unit, goal and meaning of a metric.

    Attributes:
        unit: Unit of its values; empty for a number without one.
        goal: Direction in which it gets better; None where that is not known.
        summary: What it is, in a few words.
    """

    unit: str
    goal: Goal | None
    summary: str


METRICS: dict[str, Metric] = {
    "val_acc_pct": Metric("%", "max", "validation accuracy in percent"),
    "val_loss": Metric("", "min", "validation cross-entropy"),
    "val_miou_pct": Metric("%", "max", "validation mean intersection over union in percent"),
    "val_pixel_acc_pct": Metric("%", "max", "validation accuracy of pixels in percent"),
    "val_rmse": Metric("", "min", "validation root mean squared error, in units of the targets"),
    "val_mae": Metric("", "min", "validation mean absolute error, in units of the targets"),
    "val_r2": Metric("", "max", "share of the variance of the validation targets that is explained"),
    "latency_ms": Metric("ms", "min", "latency of one batch on the target device, milliseconds, measured or predicted"),
    "throughput_per_s": Metric("1/s", "max", "images a second on the target device at its batch size"),
    "macs": Metric("", "min", "multiply-adds of one image (one multiply-add = 1 MAC = 2 FLOPs)"),
    "params": Metric("", "min", "trainable parameters"),
    "size_bytes": Metric("B", "min", "bytes of the stored weights"),
    "peak_memory_bytes": Metric(
        "B", "min", "most bytes of activations that one image needs at a time, float32, batch norm folded"
    ),
    "ram_bytes": Metric("B", "min", "RAM of the int8 network in TensorFlow Lite Micro: its arena, estimated"),
    "flash_bytes": Metric("B", "min", "flash of the int8 network in TensorFlow Lite Micro: its file, estimated"),
    "energy_mj": Metric(
        "mJ", "min", "energy of one inference of the target device's batch, millijoules, measured; idle power included"
    ),
}
"""Metrics that a search may optimise. Test accuracy is missing on purpose: test data are read once, at the end."""

FOOTPRINT = ("ram_bytes", "flash_bytes")
"""Memory of a network on a microcontroller."""

CAPACITY = frozenset({"macs", "params", "size_bytes"})
"""Costs that may be maximised nevertheless: as a stand-in for accuracy, which larger networks often have more of."""


def goal_of(metric: str) -> Goal | None:
    """The direction in which a metric of ours gets better; None for a name that is not ours."""
    entry = METRICS.get(metric)
    return None if entry is None else entry.goal


def summary_of(metric: str) -> str:
    """The meaning of a metric, in a few words; empty for a name that is not ours."""
    entry = METRICS.get(metric)
    return "" if entry is None else entry.summary


def latency_and_throughput(milliseconds: float, batch: int) -> dict[str, float]:
    """The metrics that follow from the milliseconds of a batch."""
    return {"latency_ms": milliseconds, "throughput_per_s": 1000 * batch / milliseconds}
