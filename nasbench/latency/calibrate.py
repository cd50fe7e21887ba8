"""Measure a sample of a space on a device, and fit a predictor on it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from nasbench.costs.work import work_and_operators
from nasbench.devices.device import Device
from nasbench.devices.measure import Latency
from nasbench.latency.calibration import AUTO, Calibration, decide, described
from nasbench.latency.operator_table import measure_operators
from nasbench.latency.predictors import HeldOut
from nasbench.latency.sample import POOL, choose_sample
from nasbench_compression import CompiledModel
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace, Task
from search_spaces.fresh_model import fresh_model

SECONDS_EACH = 0.15
TOGETHER = 100  # networks that are in memory at a time

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
        space: Search space of the networks.
        task: Task that the networks are built for.
        device: Device that runs them.
        samples: Number of networks; fewer if the space, or a table, has fewer.
        seed: Random seed of the sample and of the weights.
        predictor: Name of the predictor, or `auto` for the one that ranks held-out architectures best. With `lookup`
            and `auto` the operators of the pool are measured as well, if the device can do that.
        on_progress: Called with the number of compiled architectures and of all.
        on_phase: Called with the name of a part of the work that begins, and how much there is to do.

    Raises:
        UserError: There is no such predictor, too little can be measured for it, or the device cannot be used.
    """
    phase = on_phase or (lambda name, total: None)
    progress = on_progress or (lambda done, total: None)
    failures: list[str] = []
    drawn = _random(space, device, POOL * samples, np.random.default_rng(seed))
    phase("counting", len(drawn))
    pool, descriptions = [], []
    for arch, (model, _) in _networks(space, drawn, task, seed, failures, progress):
        pool.append(arch)
        descriptions.append(work_and_operators(model, task))
    _require(descriptions, space, failures)
    chosen = choose_sample(np.array([row for row, _ in descriptions]), samples)
    operators = None
    if device.times_networks and (predictor == "lookup" or (predictor == AUTO and device.measures_many)):
        phase("measuring operators", 0)
        operators = measure_operators(device, [used for _, used in descriptions], seed=seed, on_progress=progress)
    phase("measuring networks", len(chosen))
    archs = [pool[index] for index in chosen]
    latencies = measure_archs(space, task, device, archs, seed=seed, failures=failures, on_progress=progress)
    _require(latencies, space, failures)
    measured_descriptions = [
        description for arch, description in zip(pool, descriptions, strict=True) if arch in latencies
    ]
    measured = [arch for arch in pool if arch in latencies]
    return Calibration(
        [space.format(arch) for arch in measured],
        np.array([row for row, _ in measured_descriptions]),
        np.array([latencies[arch].median for arch in measured]),
        _protocol([latencies[arch] for arch in measured], device, seed),
        operators,
        None if operators is None else np.array([operators.row(used) for _, used in measured_descriptions]),
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
        calibration: Calibration whose predictor is checked.
        space: Search space of the architectures.
        task: Task that the networks are built for.
        device: Device that runs them.
        count: Number of architectures; fewer if there are fewer others.
        seed: Random seed of the architectures and their weights.
        on_progress: Called with the number of compiled architectures and of all.

    Raises:
        UserError: There is no other architecture.
    """
    calibrated = {space.canonical(space.parse(text)) for text in calibration.architectures}
    drawn = _random(space, device, count + len(calibrated), np.random.default_rng(seed))
    fresh = [arch for arch in drawn if space.canonical(arch) not in calibrated][:count]
    if not fresh:
        raise UserError(f"all {len(calibrated)} networks that there are were measured; none is left to check on.")
    failures: list[str] = []
    latencies = measure_archs(space, task, device, fresh, seed=seed, failures=failures, on_progress=on_progress)
    _require(latencies, space, failures)
    built = _networks(space, list(latencies), task, seed, failures, lambda done, total: None)
    columns = described((network for _, network in built), calibration.operators)
    predicted_ms, std_ms = calibration.predictor(space).predict_many(list(latencies), *columns)
    return HeldOut(np.array([latency.median for latency in latencies.values()]), predicted_ms, std_ms)


def measure_archs(
    space: SearchSpace,
    task: Task,
    device: Device,
    archs: Sequence[Architecture],
    *,
    seed: int,
    failures: list[str],
    on_progress: Progress = lambda done, total: None,
) -> dict[Architecture, Latency]:
    """Latencies of architectures with fresh weights: `TOGETHER` are compiled, and then measured in rounds.

    What cannot be built or compiled is passed over, for in a search it is an outcome, too.

    Args:
        space: Search space that they belong to.
        task: Task that the networks are built for.
        device: Device that runs them.
        archs: Architectures to measure.
        seed: Random seed of the weights, and of the order in which they take turns.
        failures: List that gets a line for each architecture that is passed over.
        on_progress: Called with the number of compiled architectures and of all.

    Raises:
        UserError: The device cannot be used.
    """
    latencies: dict[Architecture, Latency] = {}
    compiled: dict[Architecture, tuple[CompiledModel, Task]] = {}

    def measure() -> None:
        timed = device.measure_quietly(list(compiled.values()), budget_s=SECONDS_EACH, seed=seed)
        latencies.update(zip(compiled, timed, strict=True))
        compiled.clear()

    for arch, (model, _) in _networks(space, archs, task, seed, failures, on_progress):
        try:
            compiled[arch] = device.candidate(space, arch, model, task), task
        except UserError:
            raise
        except Exception as error:
            failures.append(_words(space, arch, error))
        if len(compiled) == TOGETHER:
            measure()
    measure()
    return latencies


def _networks(
    space: SearchSpace,
    archs: Sequence[Architecture],
    task: Task,
    seed: int,
    failures: list[str],
    on_progress: Progress,
) -> Iterator[tuple[Architecture, tuple[nn.Module, Task]]]:
    """Architectures with their networks, one by one; the global generator is touched only while one is built."""
    for done, arch in enumerate(archs, start=1):
        try:
            model = fresh_model(space, arch, task, seed).eval()
            with torch.no_grad():
                model(*task.example())
        except Exception as error:  # it may fail in any way
            failures.append(_words(space, arch, error))
        else:
            yield arch, (model, task)
        on_progress(done, len(archs))


def _words(space: SearchSpace, arch: Architecture, error: Exception) -> str:
    return f"{space.format(arch)}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _require(networks: Collection[object], space: SearchSpace, failures: Sequence[str]) -> None:
    if not networks:
        first = failures[0] if failures else "there is none"
        raise UserError(f"no network of space {space.name!r} could be built and compiled: {first}.")


def _random(space: SearchSpace, device: Device, count: int, rng: np.random.Generator) -> list[Architecture]:
    """Random architectures, or random ones of those that the device knows."""
    known_archs = device.known(space)
    if known_archs is None:
        return distinct_sample(space, count, rng)
    return [known_archs[index] for index in rng.permutation(len(known_archs))[:count]]


def _protocol(latencies: Sequence[Latency], device: Device, seed: int) -> dict[str, Any]:
    facts = latencies[0].to_json()
    protocol = {key: facts[key] for key in ("batch", "threads", "runtime", "precision", "warmup", "estimator")}
    fewest = min(latency.repeats for latency in latencies)
    # A device is known by its own name before it measures; a command may tell another one of the machine behind it.
    where = {"device": device.machine, "ran_on": facts["device"]}
    return protocol | where | {"repeats": fewest, "order": device.order, "seed": seed}


def distinct_sample(space: SearchSpace, samples: int, rng: np.random.Generator) -> list[Architecture]:
    """Up to `samples` architectures that build different networks."""
    archs: dict[Architecture, None] = {}
    for _ in range(20 * samples):
        if len(archs) == samples:
            break
        archs.setdefault(space.canonical(space.sample(rng)))
    return list(archs)
