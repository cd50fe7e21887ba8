"""The latency of a network on a machine that has other work: in turn with networks whose quiet latency is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasbench.devices.device import Device
from nasbench_compression import CompiledModel
from search_spaces import Task

CANDIDATE = "candidate"


def measure_beside(
    device: Device,
    compiled: CompiledModel,
    task: Task,
    anchors: Sequence[tuple[CompiledModel, float]],
    budget_s: float = 0.3,
) -> float:
    """Median latency in milliseconds, as it would be measured while nothing else runs.

    What slows the machine down slows the anchors down, too: each says the latency as its own known one times a ratio,
    and the median of what they say is taken. Where a device tells latencies instead of timing calls, or without an
    anchor, it is a plain measurement.

    Args:
        device: where the network is measured.
        compiled: by this device.
        task: the shape of its images.
        anchors: networks that this device compiled, each with its latency in milliseconds.
        budget_s: for each network.
    """
    if not anchors or not device.measures_many:
        return device.measure(compiled, task, budget_s).median
    named = {str(number): model for number, (model, _) in enumerate(anchors)}
    ratios = device.compare({CANDIDATE: compiled, **named}, task, budget_s).ratios
    told = [known_ms / ratios[str(number)].ratio for number, (_, known_ms) in enumerate(anchors)]
    return float(np.median(told))
