"""What a network costs, known before it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from nasbench.config import Experiment
from nasbench.hardware import Calibration, Device, LatencyPredictor, cost, work
from nasbench.hardware.memory import peak_activation_bytes
from search_spaces import Task

LATENCY = ("latency_ms", "throughput_per_s")


def costs(
    model: nn.Module, task: Task, experiment: Experiment, calibration: Mapping[str, Any] | LatencyPredictor | None
) -> dict[str, float]:
    """The costs of a candidate of an experiment: those of `paper_costs`, and latency as the experiment wants it.

    Args:
        model: as it is built; each module keeps its mode.
        task: what it was built for.
        experiment: whose device it is.
        calibration: a fitted predictor, or measurements as JSON, to which one is fitted in 0.1 ms; None
            where nothing is predicted: then latency is measured, if the experiment needs it at all.

    Returns:
        macs, params, size_bytes, and with a latency latency_ms and throughput_per_s, with a prediction
        latency_std_ms too.
    """
    if isinstance(calibration, Mapping):
        calibration = Calibration.from_json(calibration).predictor()
    device = Device.from_config(experiment.device)
    known = paper_costs(model, task, calibration, batch=device.batch)
    if calibration is None and experiment.needs_latency:
        known |= _latency(device.latency(model, task).median, device.batch)
    return known


def paper_costs(
    model: nn.Module, task: Task, predictor: LatencyPredictor | None = None, *, batch: int = 1, peak: bool = False
) -> dict[str, float]:
    """The costs that need no measurement of this network.

    Args:
        model: as it is built; each module keeps its mode.
        task: what it was built for.
        predictor: of the latency of one batch; None predicts none.
        batch: images in one inference of the device that the predictor was fitted for.
        peak: whether to run the network once for peak_memory_bytes, the most bytes of activations of one image.

    Returns:
        macs, params, size_bytes, and with a predictor latency_ms, latency_std_ms and throughput_per_s.
    """
    counted = cost(model, task)
    known: dict[str, float] = {"macs": counted.macs, "params": counted.params, "size_bytes": counted.size_bytes}
    if peak:
        known["peak_memory_bytes"] = peak_activation_bytes(model, task)
    if predictor is not None:
        mean, std = predictor.predict(work(model, task)[None])
        known |= _latency(float(mean[0]), batch) | {"latency_std_ms": float(std[0])}
    return known


def _latency(milliseconds: float, batch: int) -> dict[str, float]:
    return {"latency_ms": milliseconds, "throughput_per_s": 1000 * batch / milliseconds}
