"""Measure a sample of a space on a device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from nasbench.hardware.device import Device
from nasbench.hardware.predictor import Calibration
from nasbench.hardware.work import work
from search_spaces import Architecture, SearchSpace, Task

SECONDS_EACH = 0.15


def calibrate(
    space: SearchSpace,
    task: Task,
    device: Device,
    *,
    samples: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Measure up to `samples` distinct random architectures with fresh weights.

    All are compiled first and then measured in turn, so that a noisy minute does not fall on a few of them.

    Args:
        space: what is searched.
        task: what the networks are built for.
        device: where they run.
        samples: how many; fewer if the space has fewer.
        seed: of the sample and of the weights.
        on_progress: called with the number of compiled architectures and `samples`.
    """
    archs = distinct_sample(space, samples, np.random.default_rng(seed))
    compiled, done = {}, []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for arch in archs:
            model = space.build(arch, task).eval()
            done.append(work(model, task))
            compiled[space.format(arch)] = device.compile(model, task)
            if on_progress is not None:
                on_progress(len(done), len(archs))
    latencies = device.measure_in_turn(compiled, task, budget_s=SECONDS_EACH)
    medians = np.array([latency.median for latency in latencies.values()])
    facts = next(iter(latencies.values())).to_json()
    protocol = {key: facts[key] for key in ("batch", "threads", "runtime", "precision", "device", "repeats", "warmup")}
    return Calibration(list(compiled), np.array(done), medians, protocol | {"order": "in turn", "seed": seed})


def distinct_sample(space: SearchSpace, samples: int, rng: np.random.Generator) -> list[Architecture]:
    """Up to `samples` architectures that build different networks."""
    found: dict[Architecture, None] = {}
    for _ in range(20 * samples):
        if len(found) == samples:
            break
        found.setdefault(space.canonical(space.sample(rng)))
    return list(found)
