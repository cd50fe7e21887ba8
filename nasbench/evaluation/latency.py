"""The latency of candidates in a search: predicted where the predictor is sure, measured where it is not."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compression import CompiledModel
from nasbench.config import Experiment
from nasbench.config.experiment import DeviceConfig, ObjectiveConfig
from nasbench.hardware import Calibration, Device, NetworkPredictor, NotInTable, get_device
from nasbench.hardware.beside import measure_beside
from nasbench.hardware.calibration import described
from search_spaces import Architecture, SearchSpace, Task, get_space

Learned = tuple[tuple[str, float], ...]
"""Architectures in the notation of the space that were measured during a search, with milliseconds."""

TWO_SIGMAS = 1.96
QUARTILES = (0.25, 0.5, 0.75)  # of the calibration's latencies, where the anchors are


@dataclass(frozen=True)
class Setting:
    """What latencies are of: hashable, so that what was fitted and compiled for it is kept by a process.

    Attributes:
        space: its configuration as JSON.
        task: what networks are built for.
        device: its configuration as JSON.
        calibration: the measurements before the search as JSON.
    """

    space: str
    task: Task
    device: str
    calibration: str

    @classmethod
    def of(cls, experiment: Experiment, task: Task, calibration: Mapping[str, Any]) -> Setting:
        """The setting of an experiment."""
        return cls(
            experiment.space.model_dump_json(), task, experiment.device.model_dump_json(), json.dumps(calibration)
        )


def predictor(setting: Setting, learned: Learned = ()) -> NetworkPredictor:
    """The predictor of a setting, fitted also on what was learned during the search."""
    return _predictor(setting, learned)


def unsure(
    mean_ms: float, std_ms: float, batch: int, objectives: Sequence[ObjectiveConfig], most_pct: float | None
) -> bool:
    """Whether a prediction is to be replaced by a measurement.

    It is if its standard deviation is more than `most_pct` percent of it, or if a hard limit on latency or throughput
    lies in its 95 % interval, so that nobody could say whether the candidate is allowed. Never if `most_pct` is None.
    """
    if most_pct is None:
        return False
    if 100 * std_ms > most_pct * mean_ms:
        return True
    low, high = mean_ms - TWO_SIGMAS * std_ms, mean_ms + TWO_SIGMAS * std_ms
    limits = {
        "latency_ms": lambda limit: limit,
        "throughput_per_s": lambda limit: 1000 * batch / limit,
    }
    return any(
        each.limit is not None and each.metric in limits and low < limits[each.metric](each.limit) < high
        for each in objectives
    )


def measured_ms(setting: Setting, arch: Architecture, model: nn.Module) -> float | None:
    """The latency of a candidate, measured; None where this machine or table cannot tell it.

    Where calls are timed, it takes turns with three networks of the calibration, so that candidates in training beside
    it do not count; on another machine than that of the calibration nothing is measured.
    """
    space, device = _space(setting.space), _device(setting.device)
    calibration = _calibration(setting.calibration)
    if calibration.protocol.get("device") != device.machine:
        return None
    try:
        compiled = device.candidate(space, arch, model, setting.task)
    except NotInTable:
        return None
    anchors = _anchors(setting) if device.measures_many else ()
    return measure_beside(device, compiled, setting.task, anchors)


@functools.lru_cache(maxsize=4)  # a worker asks for the same one again and again
def _predictor(setting: Setting, learned: Learned) -> NetworkPredictor:
    space, calibration = _space(setting.space), _calibration(setting.calibration)
    if learned:
        rows = [_described(setting, text) for text, _ in learned]
        calibration = calibration.extended(
            [text for text, _ in learned],
            torch.tensor([work for work, _ in rows], dtype=torch.float64).numpy(),
            torch.tensor([table for _, table in rows], dtype=torch.float64).numpy(),
            torch.tensor([latency for _, latency in learned], dtype=torch.float64).numpy(),
        )
    return calibration.predictor(space)


@functools.lru_cache(maxsize=4096)
def _described(setting: Setting, text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What predictors read of an architecture."""
    arch = _space(setting.space).parse(text)
    work, table = described([(_network(setting, arch), setting.task)], _calibration(setting.calibration).operators)
    return tuple(work[0].tolist()), tuple(table[0].tolist())


@functools.lru_cache(maxsize=2)
def _anchors(setting: Setting) -> tuple[tuple[CompiledModel, float], ...]:
    """Networks of the calibration, compiled, with what was measured of them while nothing else ran."""
    space, device, calibration = _space(setting.space), _device(setting.device), _calibration(setting.calibration)
    order = calibration.latency_ms.argsort(kind="stable")
    found = []
    for row in dict.fromkeys(int(order[int(share * (len(order) - 1))]) for share in QUARTILES):
        arch = space.parse(calibration.architectures[row])
        compiled = device.candidate(space, arch, _network(setting, arch), setting.task)
        found.append((compiled, float(calibration.latency_ms[row])))
    return tuple(found)


def _network(setting: Setting, arch: Architecture) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _space(setting.space).build(arch, setting.task).eval()


@functools.lru_cache(maxsize=2)
def _space(config: str) -> SearchSpace:
    named = json.loads(config)
    return get_space(named.pop("name"), **named)


@functools.lru_cache(maxsize=2)
def _device(config: str) -> Device:
    return get_device(DeviceConfig.model_validate_json(config))


@functools.lru_cache(maxsize=2)
def _calibration(text: str) -> Calibration:
    return Calibration.from_json(json.loads(text))
