"""Costs of a network, known before it is trained."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from nasbench.costs.cost import Cost, cost, counts
from nasbench.costs.microcontroller import footprint
from nasbench.devices.device import Device
from nasbench.devices.table import NotInTable
from nasbench.evaluators.errors import InfeasibleError
from nasbench.evaluators.latency import LatencyEstimator, Learned, unsure
from nasbench.latency.calibration import NetworkPredictor
from nasbench.objectives.metrics import FOOTPRINT, latency_and_throughput
from nasbench.objectives.objective import Objective
from nasbench_compression import CompiledModel
from search_spaces import Architecture, SearchSpace, Task

T = TypeVar("T")

ON_PAPER = ("macs", "params", "size_bytes", "peak_memory_bytes", *FOOTPRINT)
LATENCY = ("latency_ms", "throughput_per_s")
ENERGY = ("energy_mj",)
ENERGY_S = 1.0  # of inferences whose energy is counted


@dataclass(frozen=True)
class CandidateCosts:
    """Costs of candidates: on paper, and those that a search reads of its device.

    Attributes:
        device: Device of latency and energy.
        needed: Names of the metrics that the search reads.
        estimator: Predictor of latency; None where nothing is predicted: then latency is measured, if it is needed at
            all.
        objectives: Objectives of the search; a prediction whose interval holds one of their limits is not sure.
        unsure_pct: Largest standard deviation of a sure prediction, in percent of it; None measures nothing.
    """

    device: Device
    needed: frozenset[str]
    estimator: LatencyEstimator | None = None
    objectives: tuple[Objective, ...] = ()
    unsure_pct: float | None = 25.0

    @property
    def needs_latency(self) -> bool:
        """Whether the search reads latency or throughput."""
        return not self.needed.isdisjoint(LATENCY)

    def __call__(
        self, space: SearchSpace, arch: Architecture, model: nn.Module, task: Task, learned: Learned = ()
    ) -> dict[str, float]:
        """The costs of a candidate: those of `paper_costs`, and what is needed of the device.

        A prediction that is not sure enough, see `nasbench.evaluators.latency.unsure`, is replaced by a measurement.

        Args:
            space: Search space that the architecture belongs to.
            arch: Architecture of the candidate.
            model: Network of the architecture, as it is built; each module keeps its mode.
            task: Task that the network was built for.
            learned: Latencies measured earlier in the search, to which the predictor is fitted as well.

        Returns:
            Macs, params, size_bytes; peak_memory_bytes, ram_bytes, flash_bytes and energy_mj if they are needed; with a
            latency latency_ms and throughput_per_s; with a prediction latency_std_ms too, and with a measurement in its
            place latency_predicted_ms.

        Raises:
            InfeasibleError: Costs are those of a table, which does not have this architecture.
        """
        device, peak = self.device, "peak_memory_bytes" in self.needed
        micro = not self.needed.isdisjoint(FOOTPRINT)

        @functools.cache  # energy and latency are of one artefact
        def compiled() -> CompiledModel:
            return device.candidate(space, arch, model, task)

        energy: dict[str, float] = {}
        if not self.needed.isdisjoint(ENERGY):
            energy = {"energy_mj": device.energy(known(compiled), task, seconds=ENERGY_S).energy_mj}
        if self.estimator is not None:
            predictor = self.estimator.predictor(learned)
            costs = energy | paper_costs(model, task, predictor, arch=arch, batch=device.batch, peak=peak, micro=micro)
            guess_ms, std_ms = costs["latency_ms"], costs["latency_std_ms"]
            if unsure(guess_ms, std_ms, device.batch, self.objectives, self.unsure_pct):
                latency_ms = self.estimator.measured_ms(compiled)
                if latency_ms is not None:
                    del costs["latency_std_ms"]
                    costs |= latency_and_throughput(latency_ms, device.batch) | {"latency_predicted_ms": guess_ms}
            return costs
        costs = energy | paper_costs(model, task, peak=peak, micro=micro)
        if self.needs_latency:
            measured = device.measure(known(compiled), task)
            costs |= latency_and_throughput(measured.median, device.batch)
        return costs


def known(looked_up: Callable[[], T]) -> T:
    """What this function gives; InfeasibleError where it looks into a table that does not have the architecture."""
    try:
        return looked_up()
    except NotInTable as missing:
        raise InfeasibleError(f"its costs are not known: {missing}", ending="before training") from None


def paper_costs(
    model: nn.Module,
    task: Task,
    predictor: NetworkPredictor | None = None,
    *,
    arch: Architecture | None = None,
    batch: int = 1,
    peak: bool = False,
    micro: bool = False,
    traffic: bool = False,
) -> dict[str, float]:
    """The costs that need no measurement of this network.

    Args:
        model: Network as it is built; each module keeps its mode.
        task: Task that the network was built for.
        predictor: Predictor of the latency of one batch; None predicts none.
        arch: Architecture, which the predictor reads, too.
        batch: Images in one inference of the device that the predictor was fitted for.
        peak: Whether to add peak_memory_bytes, the most bytes of activations of one image.
        micro: Whether to add ram_bytes and flash_bytes, see `footprint`.
        traffic: Whether to add bytes_moved and flops_per_byte.

    Returns:
        Macs, params, size_bytes, and with a predictor latency_ms, latency_std_ms and throughput_per_s.
    """
    counted = cost(model, task) if peak or traffic else counts(model, task)
    costs: dict[str, float] = {"macs": counted.macs, "params": counted.params, "size_bytes": counted.size_bytes}
    if isinstance(counted, Cost):
        if peak:
            costs["peak_memory_bytes"] = counted.peak_activation_bytes
        if traffic:
            costs |= {"bytes_moved": counted.bytes_moved, "flops_per_byte": counted.flops_per_byte}
    if micro:
        memory = footprint(model, task)
        costs |= {"ram_bytes": memory.ram_bytes, "flash_bytes": memory.flash_bytes}
    if predictor is not None:
        if arch is None:
            raise ValueError("a predictor reads the architecture, and arch is None")
        mean_ms, std_ms = predictor.predict(arch, model, task)
        costs |= latency_and_throughput(mean_ms, batch) | {"latency_std_ms": std_ms}
    return costs
