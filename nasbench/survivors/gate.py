"""Whether a compression step was worth it: the artefact that it leads to against the one before, timed in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nasbench.devices.device import Device
from nasbench.survivors.config import GateConfig
from nasbench_compression import CompiledModel
from nasbench_compression.timing import Ratio
from search_spaces import Task

NO_GATE = GateConfig(max_drop_pct=100, must_save=False)
"""Lets every step pass, where what it costs and saves is weighed elsewhere, or shown."""

LESS = 0.99  # of the bytes, at most, is a saving
SECONDS_EACH, ROUNDS = 0.2, 3


@dataclass(frozen=True)
class Saving:
    """The saving of a step on the device.

    Attributes:
        latency: Latency as a multiple of that of the artefact before, with its interval.
        bytes: Bytes before and after.
    """

    latency: Ratio
    bytes: tuple[int, int]

    @property
    def worth_it(self) -> bool:
        """Whether it is faster beyond noise, or smaller."""
        return self.latency.high < 1 or self.bytes[1] <= LESS * self.bytes[0]

    @property
    def reason(self) -> str:
        """Why it was not worth it, in words."""
        ratio = self.latency
        return (
            f"it saves neither time nor bytes: its artefact takes {ratio.ratio:.2f} times as long as the one before "
            f"({ratio.low:.2f} to {ratio.high:.2f}, timed in turn), and {self.bytes[1]:,} bytes against "
            f"{self.bytes[0]:,}"
        )

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {"latency": self.latency.to_json(), "bytes": list(self.bytes)}


def saving(device: Device, task: Task, before: CompiledModel, after: CompiledModel, sizes: tuple[int, int]) -> Saving:
    """Time two artefacts in turn, in `ROUNDS` rounds.

    Args:
        device: Device that both were compiled for; one that times calls itself (`Device.measures_many`).
        task: Task with the shape of their images.
        before: Artefact of the stage that the step went on from.
        after: Artefact of the step's result.
        sizes: Bytes of both, as a report counts them.
    """
    comparison = device.compare({"before": before, "after": after}, task, SECONDS_EACH, rounds=ROUNDS)
    return Saving(comparison.ratios["after"], sizes)
