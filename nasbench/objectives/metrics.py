"""The metrics of a candidate: their names, units and meaning. The unit is in the name."""

from __future__ import annotations

from collections.abc import Mapping

Metrics = Mapping[str, float]

METRICS: dict[str, str] = {
    "val_acc_pct": "validation accuracy in percent",
    "val_loss": "validation cross-entropy",
    "latency_ms": "latency of one batch on the target device, milliseconds, measured or predicted",
    "throughput_per_s": "images a second on the target device at its batch size",
    "macs": "multiply-adds of one image (one multiply-add = 1 MAC = 2 FLOPs)",
    "params": "trainable parameters",
    "size_bytes": "bytes of the stored weights",
    "peak_memory_bytes": "most bytes of activations that one image needs at a time, float32, batch norm folded",
    "energy_mj": "energy of one inference of the target device's batch, millijoules, measured; idle power included",
}
"""What a search may optimise. Test accuracy is missing on purpose: test data are read once, at the end."""

LARGER_IS_BETTER = frozenset({"val_acc_pct", "throughput_per_s"})
