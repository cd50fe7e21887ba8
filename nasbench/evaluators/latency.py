"""The latency of candidates in a search: predicted where the predictor is sure, measured where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from nasbench.devices.beside import Anchor
from nasbench.devices.device import Device
from nasbench.devices.table import NotInTable
from nasbench.latency.calibration import Calibration, NetworkPredictor, described
from nasbench.objectives.objective import Objective
from nasbench.objectives.statistics import TWO_SIGMAS
from nasbench_compression import CompiledModel
from search_spaces import SearchSpace, Task
from search_spaces.fresh_model import fresh_model

Learned = tuple[tuple[str, float], ...]
"""Architectures in the notation of the space that were measured during a search, with milliseconds."""

QUARTILES = (0.25, 0.5, 0.75)  # of the calibration's latencies, where the anchors are
SECONDS_EACH = 0.3  # that a candidate is timed, and each anchor beside it
REFIT = 5  # the predictor learns from so many measured candidates at a time


class LatencyEstimator:
    """Predicts and measures the latency of candidates of a space on a device.

    What was fitted and compiled is kept by the process, and does not travel with it.

    Args:
        space: Search space of the candidates.
        task: Task that networks are built for.
        device: Device whose latency is estimated.
        calibration: Measurements before the search.
    """

    def __init__(self, space: SearchSpace, task: Task, device: Device, calibration: Calibration) -> None:
        self.space, self.task, self.device, self.calibration = space, task, device, calibration
        self._begin()

    def _begin(self) -> None:
        self.predictor = lru_cache(maxsize=4)(self._predictor)
        self._described = lru_cache(maxsize=4096)(self._describe)
        self._anchors: tuple[Anchor, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("space", "task", "device", "calibration")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _predictor(self, learned: Learned = ()) -> NetworkPredictor:
        """The predictor, fitted also on what was learned during the search."""
        calibration = self.calibration
        if learned:
            texts, latencies = zip(*learned, strict=True)
            work, table = zip(*(self._described(text) for text in texts), strict=True)
            calibration = calibration.extended(texts, np.array(work), np.array(table), np.array(latencies))
        return calibration.predictor(self.space)

    def measured_ms(self, compiled: Callable[[], CompiledModel]) -> float | None:
        """The latency of a candidate, measured; None where this machine or table cannot tell it.

        Where calls are timed, it takes turns with networks of the calibration, so that candidates in training beside
        it do not count; on another machine than that of the calibration nothing is measured.

        Args:
            compiled: Function that gives the candidate as its device runs it; called only if it is needed.
        """
        if self._elsewhere:
            return None
        try:
            candidate = compiled()
        except NotInTable:
            return None
        return self.device.measure(candidate, self.task, SECONDS_EACH, self.anchors()).median

    @property
    def _elsewhere(self) -> bool:
        """Whether the calibration is of another machine."""
        return self.calibration.protocol.get("device") != self.device.machine

    def anchors(self) -> tuple[Anchor, ...]:
        """Networks of the calibration, compiled, with what was measured of them then.

        None where the device tells latencies, which nothing slows down, and on another machine, whose slowdown would be
        that of another processor.
        """
        if not self.device.measures_many or self._elsewhere:
            return ()
        if self._anchors is None:
            latency_ms = self.calibration.latency_ms
            order = latency_ms.argsort(kind="stable")
            anchors = []
            for row in dict.fromkeys(int(order[int(share * (len(order) - 1))]) for share in QUARTILES):
                arch = self.space.parse(self.calibration.architectures[row])
                network = fresh_model(self.space, arch, self.task, 0).eval()
                compiled = self.device.candidate(self.space, arch, network, self.task)
                anchors.append(Anchor(compiled, float(latency_ms[row])))
            self._anchors = tuple(anchors)
        return self._anchors

    def _describe(self, text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The description of an architecture that predictors read."""
        network = fresh_model(self.space, self.space.parse(text), self.task, 0).eval()
        work, table = described([(network, self.task)], self.calibration.operators)
        return tuple(work[0].tolist()), tuple(table[0].tolist())


def anchors_of(estimator: LatencyEstimator | None) -> tuple[Anchor, ...]:
    """The anchors of an estimator; none where there is none, for then nothing was calibrated."""
    return () if estimator is None else estimator.anchors()


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
    limits: dict[str, Callable[[float], float]] = {
        "latency_ms": lambda limit: limit,
        "throughput_per_s": lambda limit: 1000 * batch / limit if limit > 0 else math.inf,
    }
    return any(
        objective.limit is not None
        and objective.metric in limits
        and low < limits[objective.metric](objective.limit) < high
        for objective in objectives
    )
