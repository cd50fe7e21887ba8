"""A machine with a clock of its own: it is known how long a network takes, and when other work interrupts it."""

from dataclasses import dataclass, field
from typing import ClassVar

from nasbench.costs.cost import counts
from nasbench.devices.device import Device
from nasbench.devices.table import KnownModel


@dataclass
class Machine:
    """What slows its networks down.

    Attributes:
        slower: so many times as long they take in every moment, as on a processor that is throttled.
        busy: in two of three turns other work interrupts them, a slow network more often than a fast one.
    """

    slower: float = 1.0
    busy: bool = False


class Clocked:
    """Calls of a network, which take no time at all: the clock of the machine says what they would have taken."""

    def __init__(self, latency_ms, machine):
        self.latency_ms, self.machine, self.turn = latency_ms, machine, -1

    def __call__(self):
        """A call that is not timed, as a turn begins with one."""
        self.turn += 1

    def seconds(self):
        """A call that is timed."""
        interrupted = self.machine.busy and self.turn % 3
        return self.latency_ms / 1000 * self.machine.slower * (10 + self.latency_ms if interrupted else 1)


@dataclass(frozen=True)
class BusyDevice(Device):
    """A device whose networks take time by their multiply-adds; `machine` is changed by the test."""

    machine_state: Machine = field(default_factory=Machine, compare=False)

    name: ClassVar[str] = "busy"

    def why_unavailable(self):
        return None

    def compile(self, model, task, precision="fp32", calibration=None):
        return KnownModel(model, 0.1 + counts(model, task).macs / 100_000)

    def eager(self, model, task):
        return KnownModel(model, 2 * self.compile(model, task).latency_ms)

    @property
    def _timer(self):
        return Clocked.seconds

    def _call(self, compiled, task):
        return Clocked(compiled.latency_ms, self.machine_state)
