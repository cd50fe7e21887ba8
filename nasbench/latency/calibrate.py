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
    failures: list[str] = []
    drawn = _random(space, device, POOL * samples, np.random.default_rng(seed))
    phase("counting", len(drawn))
    pool, seen = [], []
    for arch, (model, _) in _networks(space, drawn, task, seed, failures, progress):
        pool.append(arch)
        seen.append(work_and_operators(model, task))
    _require(seen, space, failures)
    taken = choose_sample(np.array([row for row, _ in seen]), samples)
    operators = None
    if device.times_networks and (predictor == "lookup" or (predictor == AUTO and device.measures_many)):
        phase("measuring operators", 0)
        operators = measure_operators(device, [used for _, used in seen], seed=seed, on_progress=progress)
    phase("measuring networks", len(taken))
    archs = [pool[index] for index in taken]
    latencies = measure_archs(space, task, device, archs, seed=seed, failures=failures, on_progress=progress)
    _require(latencies, space, failures)
    known = [found for arch, found in zip(pool, seen, strict=True) if arch in latencies]
    measured = [arch for arch in pool if arch in latencies]
    return Calibration(
        [space.format(arch) for arch in measured],
        np.array([row for row, _ in known]),
        np.array([latencies[arch].median for arch in measured]),
        _protocol([latencies[arch] for arch in measured], device, seed),
        operators,
        None if operators is None else np.array([operators.row(used) for _, used in known]),
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
        space: that they belong to.
        task: what the networks are built for.
        device: where they run.
        archs: to measure.
        seed: of the weights, and of the order in which they take turns.
        failures: gets a line for each that is passed over.
        on_progress: called with the number of compiled architectures and of all.

    Raises:
        UserError: the device cannot be used.
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


def _require(found: Collection[object], space: SearchSpace, failures: Sequence[str]) -> None:
    if not found:
        first = failures[0] if failures else "there is none"
        raise UserError(f"no network of space {space.name!r} could be built and compiled: {first}.")


def _random(space: SearchSpace, device: Device, count: int, rng: np.random.Generator) -> list[Architecture]:
    """Random architectures, or random ones of those that the device knows."""
    known = device.known(space)
    if known is None:
        return distinct_sample(space, count, rng)
    return [known[index] for index in rng.permutation(len(known))[:count]]


def _protocol(latencies: Sequence[Latency], device: Device, seed: int) -> dict[str, Any]:
    facts = latencies[0].to_json()
    kept = {key: facts[key] for key in ("batch", "threads", "runtime", "precision", "warmup", "estimator")}
    fewest = min(latency.repeats for latency in latencies)
    # A device is known by its own name before it measures; a command may tell another one of the machine behind it.
    where = {"device": device.machine, "ran_on": facts["device"]}
    return kept | where | {"repeats": fewest, "order": device.order, "seed": seed}


def distinct_sample(space: SearchSpace, samples: int, rng: np.random.Generator) -> list[Architecture]:
    """Up to `samples` architectures that build different networks."""
    found: dict[Architecture, None] = {}
    for _ in range(20 * samples):
        if len(found) == samples:
            break
        found.setdefault(space.canonical(space.sample(rng)))
    return list(found)
