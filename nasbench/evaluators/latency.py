"""The latency of candidates in a search: predicted where the predictor is sure, measured where it is not."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasbench.devices.beside import measure_beside
from nasbench.devices.config import DeviceConfig
from nasbench.devices.device import Device
from nasbench.devices.registry import get_device
from nasbench.devices.table import NotInTable
from nasbench.experiment.experiment import Experiment
from nasbench.latency.calibration import Calibration, NetworkPredictor, described
from nasbench.latency.predictors.validation import TWO_SIGMAS
from nasbench.objectives.objective import Objective
from nasbench_compression import CompiledModel
from search_spaces import SearchSpace, Task, get_space
from search_spaces.fresh_model import fresh_model

Learned = tuple[tuple[str, float], ...]
"""Architectures in the notation of the space that were measured during a search, with milliseconds."""

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


@functools.lru_cache(maxsize=4)  # a worker asks for the same one again and again
def predictor(setting: Setting, learned: Learned = ()) -> NetworkPredictor:
    """The predictor of a setting, fitted also on what was learned during the search."""
    calibration = _calibration(setting.calibration)
    if learned:
        texts, latencies = zip(*learned, strict=True)
        work, table = zip(*(_described(setting, text) for text in texts), strict=True)
        calibration = calibration.extended(texts, np.array(work), np.array(table), np.array(latencies))
    return calibration.predictor(_space(setting.space))


def unsure(mean_ms: float, std_ms: float, batch: int, objectives: Sequence[Objective], most_pct: float | None) -> bool:
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


def measured_ms(setting: Setting, compiled: Callable[[], CompiledModel]) -> float | None:
    """The latency of a candidate, measured; None where this machine or table cannot tell it.

    Where calls are timed, it takes turns with three networks of the calibration, so that candidates in training beside
    it do not count; on another machine than that of the calibration nothing is measured.

    Args:
        setting: of the search.
        compiled: gives the candidate as its device runs it; called only if it is needed.
    """
    device = _device(setting.device)
    if _calibration(setting.calibration).protocol.get("device") != device.machine:
        return None
    try:
        candidate = compiled()
    except NotInTable:
        return None
    return measure_beside(device, candidate, setting.task, anchors(setting) if device.measures_many else ())


@functools.lru_cache(maxsize=4096)
def _described(setting: Setting, text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What predictors read of an architecture."""
    space = _space(setting.space)
    network = fresh_model(space, space.parse(text), setting.task, 0).eval()
    work, table = described([(network, setting.task)], _calibration(setting.calibration).operators)
    return tuple(work[0].tolist()), tuple(table[0].tolist())


@functools.lru_cache(maxsize=2)
def anchors(setting: Setting) -> tuple[tuple[CompiledModel, float], ...]:
    """Networks of the calibration, compiled, with what was measured of them while nothing else ran."""
    space, device, calibration = _space(setting.space), _device(setting.device), _calibration(setting.calibration)
    order = calibration.latency_ms.argsort(kind="stable")
    found = []
    for row in dict.fromkeys(int(order[int(share * (len(order) - 1))]) for share in QUARTILES):
        arch = space.parse(calibration.architectures[row])
        compiled = device.candidate(space, arch, fresh_model(space, arch, setting.task, 0).eval(), setting.task)
        found.append((compiled, float(calibration.latency_ms[row])))
    return tuple(found)


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
