"""Measure a sample of a space on a device, and fit a predictor on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from nasbench.hardware.calibration import AUTO, Calibration, decide, described
from nasbench.hardware.device import Device
from nasbench.hardware.measure import Latency
from nasbench.hardware.operators import measure_operators
from nasbench.hardware.predictors import HeldOut
from nasbench.hardware.sample import POOL, choose_sample
from nasbench.hardware.work import work_and_operators
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace, Task

SECONDS_EACH = 0.15

Progress = Callable[[int, int], None]


def calibrate(
    space: SearchSpace,
    task: Task,
    device: Device,
    *,
    samples: int,
    seed: int,
    predictor: str = "work",
    on_progress: Progress | None = None,
    on_phase: Callable[[str, int], None] | None = None,
) -> Calibration:
    """`measure_sample`, and the decision on a predictor; see there for the arguments."""
    measured = measure_sample(
        space,
        task,
        device,
        samples=samples,
        seed=seed,
        predictor=predictor,
        on_progress=on_progress,
        on_phase=on_phase,
    )
    return decide(measured, space, predictor, seed=seed)[0]


def measure_sample(
    space: SearchSpace,
    task: Task,
    device: Device,
    *,
    samples: int,
    seed: int,
    predictor: str = "work",
    on_progress: Progress | None = None,
    on_phase: Callable[[str, int], None] | None = None,
) -> Calibration:
    """Measure up to `samples` distinct architectures with fresh weights; no predictor is decided on.

    Of `POOL` times as many random architectures those are measured that `choose_sample` takes. All are compiled first
    and then measured in rounds, so that a noisy minute does not fall on a few of them; see `time_in_rounds`.

    Args:
        space: what is searched.
        task: what the networks are built for.
        device: where they run.
        samples: how many; fewer if the space, or a table, has fewer.
        seed: of the sample and of the weights.
        predictor: that is wanted: its name, or `auto` for the one that ranks held-out architectures best. With `lookup`
            and `auto` the operators of the pool are measured as well, if the device can do that.
        on_progress: called with the number of compiled architectures and of all.
        on_phase: called with the name of a part of the work that begins, and how much there is to do.

    Raises:
        UserError: there is no such predictor, too little can be measured for it, or the device cannot be used.
    """
    phase = on_phase or (lambda name, total: None)
    progress = on_progress or (lambda done, total: None)
    pool = _random(space, device, POOL * samples, np.random.default_rng(seed))
    phase("counting", len(pool))
    seen = [work_and_operators(model, task) for model in _networks(space, pool, task, seed, progress)]
    taken = choose_sample(np.array([row for row, _ in seen]), samples)
    operators = None
    if device.times_networks and (predictor == "lookup" or (predictor == AUTO and device.measures_many)):
        phase("measuring operators", 0)
        operators = measure_operators(device, [used for _, used in seen], seed=seed, on_progress=progress)
    phase("measuring networks", len(taken))
    archs = [pool[index] for index in taken]
    latencies = measure_archs(space, task, device, archs, seed=seed, on_progress=progress)
    return Calibration(
        [space.format(arch) for arch in archs],
        np.array([seen[index][0] for index in taken]),
        np.array([latency.median for latency in latencies]),
        _protocol(latencies, seed),
        operators,
        None if operators is None else np.array([operators.row(seen[index][1]) for index in taken]),
    )


def check_on_fresh(
    calibration: Calibration,
    space: SearchSpace,
    task: Task,
    device: Device,
    *,
    count: int,
    seed: int,
    on_progress: Progress = lambda done, total: None,
) -> HeldOut:
    """Measure `count` random architectures that no predictor has seen, and compare with what is predicted for them.

    Args:
        calibration: whose predictor is checked.
        space: of the architectures.
        task: what the networks are built for.
        device: where they run.
        count: how many; fewer if there are fewer others.
        seed: of the architectures and their weights.
        on_progress: called with the number of compiled architectures and of all.

    Raises:
        UserError: there is no other architecture.
    """
    seen = {space.canonical(space.parse(text)) for text in calibration.architectures}
    found = _random(space, device, count + len(seen), np.random.default_rng(seed))
    fresh = [arch for arch in found if space.canonical(arch) not in seen][:count]
    if not fresh:
        raise UserError(f"all {len(seen)} networks that there are were measured; none is left to check on.")
    predictor = calibration.predictor(space)
    networks = ((model, task) for model in _networks(space, fresh, task, seed, lambda done, total: None))
    predicted_ms, std_ms = predictor.predict_many(fresh, *described(networks, calibration.operators))
    latencies = measure_archs(space, task, device, fresh, seed=seed, on_progress=on_progress)
    return HeldOut(np.array([latency.median for latency in latencies]), predicted_ms, std_ms)


def measure_archs(
    space: SearchSpace,
    task: Task,
    device: Device,
    archs: Sequence[Architecture],
    *,
    seed: int,
    on_progress: Progress = lambda done, total: None,
) -> list[Latency]:
    """Latencies of architectures with fresh weights, each compiled first and then measured in rounds with the others.

    Args:
        space: that they belong to.
        task: what the networks are built for.
        device: where they run.
        archs: to measure.
        seed: of the weights, and of the order in which they take turns.
        on_progress: called with the number of compiled architectures and of all.
    """
    built = _networks(space, archs, task, seed, on_progress)
    compiled = [(device.candidate(space, arch, model, task), task) for arch, model in zip(archs, built, strict=True)]
    return device.measure_quietly(compiled, budget_s=SECONDS_EACH, seed=seed)


def _networks(
    space: SearchSpace, archs: Sequence[Architecture], task: Task, seed: int, on_progress: Progress
) -> Iterator[nn.Module]:
    """The networks one by one; the global generator is touched only while one is built."""
    for done, arch in enumerate(archs, start=1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = space.build(arch, task).eval()
        yield model
        on_progress(done, len(archs))


def _random(space: SearchSpace, device: Device, count: int, rng: np.random.Generator) -> list[Architecture]:
    """Random architectures, or random ones of those that the device knows."""
    known = device.known(space)
    if known is None:
        return distinct_sample(space, count, rng)
    return [known[index] for index in rng.permutation(len(known))[:count]]


def _protocol(latencies: Sequence[Latency], seed: int) -> dict[str, Any]:
    facts = latencies[0].to_json()
    kept = {key: facts[key] for key in ("batch", "threads", "runtime", "precision", "device", "warmup")}
    fewest = min(latency.repeats for latency in latencies)
    return kept | {"repeats": fewest, "order": "in rounds, the quietest tenth", "seed": seed}


def distinct_sample(space: SearchSpace, samples: int, rng: np.random.Generator) -> list[Architecture]:
    """Up to `samples` architectures that build different networks."""
    found: dict[Architecture, None] = {}
    for _ in range(20 * samples):
        if len(found) == samples:
            break
        found.setdefault(space.canonical(space.sample(rng)))
    return list(found)
