"""The hardware that a network is measured on."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from compression import CompiledModel, get_backend
from nasbench.config.experiment import DeviceConfig
from nasbench.hardware.measure import Latency, summarise, time_calls, time_in_turn
from search_spaces import Task


@functools.cache
def processor_name() -> str:
    """The model of this machine's processor, or what the platform says if the model is not known."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True)
class Device:
    """This machine's CPU with a runtime, so many threads and so many images at a time.

    Attributes:
        runtime: name of the compilation backend that runs the network.
        threads: threads of one inference.
        batch: images in one inference.
    """

    runtime: str = "eager"
    threads: int = 1
    batch: int = 1

    @classmethod
    def from_config(cls, config: DeviceConfig) -> Device:
        """The device of an experiment; UserError if its runtime is unknown."""
        get_backend(config.runtime, threads=config.threads)
        return cls(config.runtime, config.threads, config.batch)

    def why_unavailable(self) -> str | None:
        """Why the runtime cannot be used here, or None."""
        return get_backend(self.runtime, threads=self.threads).why_unavailable()

    def compile(
        self, model: nn.Module, task: Task, precision: str = "fp32", calibration: torch.Tensor | None = None
    ) -> CompiledModel:
        """The network as this device's runtime runs it; UserError if the runtime is not installed."""
        example = torch.zeros(self.batch, *task.input_shape)
        return get_backend(self.runtime, threads=self.threads).compile(model, example, precision, calibration)

    def measure(self, compiled: CompiledModel, task: Task, budget_s: float = 0.5) -> Latency:
        """Latency of a compiled model on random images; see `time_calls` for the protocol."""
        seconds, warmup = time_calls(self._call(compiled, task), budget_s=budget_s)
        return self._latency(seconds, warmup, compiled)

    def measure_in_turn(
        self, compiled: Mapping[str, CompiledModel], task: Task, budget_s: float = 0.5
    ) -> dict[str, Latency]:
        """Latencies of several models that share the machine's noise: calls alternate between them.

        Args:
            compiled: the models by name.
            task: the shape of their images.
            budget_s: for each model.
        """
        calls = {name: self._call(model, task) for name, model in compiled.items()}
        timed = time_in_turn(calls, budget_s=budget_s * len(calls))
        return {name: self._latency(seconds, warmup, compiled[name]) for name, (seconds, warmup) in timed.items()}

    def latency(self, model: nn.Module, task: Task, budget_s: float = 0.5) -> Latency:
        """Compile in fp32 and measure."""
        return self.measure(self.compile(model, task), task, budget_s)

    def _call(self, compiled: CompiledModel, task: Task) -> Callable[[], object]:
        images = np.random.default_rng(0).standard_normal((self.batch, *task.input_shape)).astype(np.float32)
        return lambda: compiled(images)

    def _latency(self, seconds: npt.NDArray[np.float64], warmup: int, compiled: CompiledModel) -> Latency:
        facts = compiled.describe()
        return summarise(
            seconds,
            warmup=warmup,
            batch=self.batch,
            threads=int(facts["threads"]),
            runtime=f"{facts['backend']} {facts['version']}",
            precision=str(facts["precision"]),
            device=processor_name(),
        )
