"""Latencies that somebody else measured."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from nasbench.devices.compare import Comparison
from nasbench.devices.device import Device
from nasbench.devices.energy import Meter, NoMeter
from nasbench.devices.measure import TOLD, Latency
from nasbench_compression import CompiledModel
from search_spaces import Task

UNKNOWN = math.nan
"""A number of the protocol that is not known; JSON null."""


def reported_latency(
    median_ms: float,
    *,
    batch: int,
    threads: int,
    runtime: str,
    device: str,
    precision: str = "fp32",
    p95_ms: float = UNKNOWN,
    iqr_ms: float = UNKNOWN,
    repeats: int = 0,
) -> Latency:
    """A latency of which no calls are known, only numbers in milliseconds; what is not known is NaN."""
    return Latency(
        median=median_ms,
        p95=p95_ms,
        iqr=iqr_ms,
        low=UNKNOWN,
        high=UNKNOWN,
        repeats=repeats,
        warmup=0,
        batch=batch,
        threads=threads,
        runtime=runtime,
        precision=precision,
        device=device,
        unstable=False,
        estimator=TOLD,
    )


@dataclass(frozen=True)
class ReportedDevice(Device):
    """A device whose latencies come from elsewhere, one network at a time: there are no calls here to take turns."""

    measures_many: ClassVar[bool] = False

    @property
    def meter(self) -> Meter:
        """There is none: it is another machine, or none at all."""
        return NoMeter(self.name)

    def eager(self, model: nn.Module, task: Task) -> CompiledModel | None:
        """There is none: PyTorch does not run there."""
        return None

    @abstractmethod
    def reported(self, compiled: CompiledModel, task: Task) -> Latency:
        """The reported latency of a compiled model."""

    def compare(
        self, compiled: Mapping[str, CompiledModel], task: Task, budget_s: float = 0.5, *, rounds: int = 1
    ) -> Comparison:
        """The reported latency of each model, once; no ratio is known."""
        return Comparison.once({name: self.reported(model, task) for name, model in compiled.items()}, {})

    def measure_quietly(
        self, compiled: Sequence[tuple[CompiledModel, Task]], *, budget_s: float, seed: int
    ) -> list[Latency]:
        """The reported latency of each model, one after the other."""
        return [self.reported(model, task) for model, task in compiled]
