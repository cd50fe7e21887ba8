"""The hardware that a network is measured on."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from nasbench.devices.beside import Anchor, Quiet, as_calibrated, slowdown
from nasbench.devices.clock import clock
from nasbench.devices.compare import Comparison
from nasbench.devices.energy import Energy, Meter, Rapl, measure_energy
from nasbench.devices.measure import ALL_CALLS, QUIETEST, Latency, summarise
from nasbench.devices.rounds import quiet_seconds, time_in_rounds
from nasbench_compression import CompiledModel, get_backend
from nasbench_compression.timing import Call, Seconds, Timer, ratio_of, time_in_turn, wall_seconds
from nasbench_registry.lazy import load
from search_spaces import Architecture, SearchSpace, Task


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

    Other devices, see `nasbench.devices.registry`, derive from it and say what they cannot do.

    Attributes:
        runtime: Name of the compilation backend that runs the network.
        threads: Number of threads of one inference.
        batch: Images in one inference.
        name: Name as users type it.
        summary: One line for a listing.
        source: Page where it is documented.
        times_networks: Whether it can time any network; if not, it knows some architectures only.
        measures_many: Whether a network is measured within a second, so that hundreds of operators can be, too.
        missing: Function that says why there is no such device here, as ``module:function``; empty where there always
            is one.
        order: How `measure_quietly` goes about it, in a few words.
    """

    runtime: str = "eager"
    threads: int = 1
    batch: int = 1

    name: ClassVar[str] = "cpu"
    summary: ClassVar[str] = "this machine's CPU, with one of the backends"
    source: ClassVar[str] = "docs/devices.md"
    times_networks: ClassVar[bool] = True
    measures_many: ClassVar[bool] = True
    missing: ClassVar[str] = ""
    order: ClassVar[str] = "in rounds, the quietest twentieth"

    @classmethod
    def why_missing(cls) -> str | None:
        """Why there is no such device here, whatever its options; None if there is one."""
        return load(cls.missing)() if cls.missing else None

    def why_unavailable(self) -> str | None:
        """Why the device or its runtime cannot be used here, or None."""
        return self.why_missing() or get_backend(self.runtime, threads=self.threads).why_unavailable()

    def why_not(self, compiled: CompiledModel) -> str | None:
        """Why this device cannot time a compiled model; None if it can."""
        return None

    @property
    def machine(self) -> str:
        """The machine of the measurements; those of another machine do not hold here."""
        return processor_name()

    def check(self, space: SearchSpace) -> None:
        """Raise UserError if the device cannot serve architectures of this space."""
        return

    def known(self, space: SearchSpace) -> Sequence[Architecture] | None:
        """The architectures of which it has a latency; None if it can measure any."""
        return None

    def candidate(self, space: SearchSpace, arch: Architecture, model: nn.Module, task: Task) -> CompiledModel:
        """The network of an architecture, as it is built, such that this device has its latency; else as `compile`."""
        return self.compile(model, task)

    def eager(self, model: nn.Module, task: Task) -> CompiledModel | None:
        """The network in eager PyTorch on this device, for comparison; None where there is no such thing."""
        return get_backend("eager", threads=self.threads).compile(model, task.one_input(self.batch))

    def compile(
        self, model: nn.Module, task: Task, precision: str = "fp32", calibration: torch.Tensor | None = None
    ) -> CompiledModel:
        """The network as this device's runtime runs it; UserError if the runtime is not installed."""
        example = task.one_input(self.batch)
        return get_backend(self.runtime, threads=self.threads).compile(model, example, precision, calibration)

    def measure(
        self, compiled: CompiledModel, task: Task, budget_s: float = 0.5, anchors: Sequence[Anchor] = ()
    ) -> Latency:
        """Latency of a compiled model on random images; as `measure_beside` for one."""
        return self.measure_beside({"": compiled}, task, anchors, budget_s).latencies[""]

    def measure_quietly(
        self, compiled: Sequence[tuple[CompiledModel, Task]], *, budget_s: float, seed: int
    ) -> list[Latency]:
        """Latencies of many models, each from the quietest moments that it met; see `time_in_rounds`.

        They are what predictors are fitted on, for other work on the machine spoils them least.

        Args:
            compiled: Models, in one precision, each with the shape of its images.
            budget_s: Seconds of measuring for each model.
            seed: Random seed of the order in which they take turns.
        """
        if not compiled:
            return []
        turns = self._turns([self._call(model, task) for model, task in compiled], budget_s, seed)
        facts = compiled[0][0].describe()  # it may take longer than the model is timed, and says the same of all
        return [self._latency(quiet_seconds(model_turns), 0, facts, QUIETEST) for model_turns in turns]

    def measure_beside(
        self,
        compiled: Mapping[str, CompiledModel],
        task: Task,
        anchors: Sequence[Anchor],
        budget_s: float = 0.3,
        *,
        seed: int = 0,
    ) -> Comparison:
        """Latencies as `measure_quietly` gave them of the anchors, whatever the machine does now.

        See `nasbench.devices.beside`. Without an anchor, or where the device tells latencies, it is `compare`.

        Args:
            compiled: Models by name; the ratios are to the first one.
            task: Shape of their images.
            anchors: Networks that this device compiled, and what is known of them.
            budget_s: Seconds of measuring for each model, anchors included.
            seed: Random seed of the order in which they take turns.
        """
        if not anchors or not self.measures_many:
            return self.compare(compiled, task, budget_s)
        models = [*compiled.values(), *(anchor.compiled for anchor in anchors)]
        turns = self._turns([self._call(model, task) for model in models], budget_s, seed)
        quiet = [Quiet.of(model_turns) for model_turns in turns]
        named = dict(zip(compiled, quiet, strict=False))
        known_ms = [anchor.latency_ms for anchor in anchors]
        slower = slowdown(list(zip(quiet[len(compiled) :], known_ms, strict=True)))
        plain = {
            name: self._latency(quiet_seconds(model_turns), 0, model.describe())
            for (name, model), model_turns in zip(compiled.items(), turns, strict=False)
        }
        return Comparison.once(
            as_calibrated(plain, named, slower),
            {name: named[name].over(quiet[0]) for name in list(compiled)[1:]},
        )

    def compare(
        self, compiled: Mapping[str, CompiledModel], task: Task, budget_s: float = 0.5, *, rounds: int = 1
    ) -> Comparison:
        """Latencies of models that share the machine's noise, for their calls take turns; see `time_in_turn`.

        Args:
            compiled: Models by name; the ratios are to the first one.
            task: Shape of their images.
            budget_s: Seconds of measuring for each model and round.
            rounds: Number of times that everything is measured, the first calls to warm up included; latencies and
                ratios are over all rounds.
        """
        calls = {name: self._call(model, task) for name, model in compiled.items()}
        facts = {name: model.describe() for name, model in compiled.items()}
        timed = [time_in_turn(calls, budget_s=budget_s * len(calls), timer=self._timer) for _ in range(rounds)]
        seconds = {name: np.concatenate([timing[name][0] for timing in timed]) for name in calls}
        names = list(calls)
        return Comparison(
            latencies={
                name: self._latency(seconds[name], sum(timing[name][1] for timing in timed), facts[name])
                for name in names
            },
            ratios={name: ratio_of(seconds[name], seconds[names[0]]) for name in names[1:]},
            rounds={name: [self._latency(*timing[name], facts[name]) for timing in timed] for name in names},
            ratio_rounds={
                name: [ratio_of(timing[name][0], timing[names[0]][0]) for timing in timed] for name in names[1:]
            },
        )

    def energy(self, compiled: CompiledModel, task: Task, seconds: float = 3.0) -> Energy:
        """Energy of one inference of a compiled model on random images, by the `meter` of this device.

        Raises:
            UserError: The machine has no such counter, or does not let us read it.
        """
        return measure_energy(self._call(compiled, task), self.meter, seconds=seconds)

    @property
    def meter(self) -> Meter:
        """The meter of the energy of this device, or the reason that there is none: the counters of the processor."""
        return Rapl()

    def latency(self, model: nn.Module, task: Task, budget_s: float = 0.5) -> Latency:
        """Compile in fp32 and measure."""
        return self.measure(self.compile(model, task), task, budget_s)

    def _turns(self, calls: Sequence[Call], budget_s: float, seed: int) -> list[list[Seconds]]:
        return time_in_rounds(calls, budget_s=budget_s * len(calls), seed=seed, timer=self._timer)

    @property
    def _timer(self) -> Timer:
        return wall_seconds

    def _call(self, compiled: CompiledModel, task: Task) -> Call:
        inputs = task.one_input(self.batch, seed=0).numpy()
        return lambda: compiled(inputs)

    def _latency(self, seconds: Seconds, warmup: int, facts: Mapping[str, Any], estimator: str = ALL_CALLS) -> Latency:
        return summarise(
            seconds,
            warmup=warmup,
            batch=self.batch,
            threads=int(facts["threads"]),
            runtime=f"{facts['backend']} {facts['version']}",
            precision=str(facts["precision"]),
            device=self.machine,
            clock=clock(),
            estimator=estimator,
        )
