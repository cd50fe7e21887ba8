"""Energy of an inference, where the machine has a counter: RAPL for a processor, NVML for a GPU of NVIDIA.

Both count a whole package, a processor or a board: what other programs use meanwhile, and what it uses when idle, is
counted too, and nothing is subtracted. Run nothing else while you measure.
"""

from __future__ import annotations

import importlib.util
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from nasbench_compression.timing import PARTS
from nasbench_registry import UserError

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Energy:
    """Energy of one inference, a call with a whole batch.

    Attributes:
        energy_mj: Millijoules a call, the mean over all calls.
        low: Smallest mean of six parts of the run.
        high: Largest mean; together the 95 % interval, see `nasbench_compression.timing.median_interval`.
        calls: Number of calls that were counted.
        seconds: Seconds that the calls took.
        power_w: Mean power of the package meanwhile, in watts.
        meter: What was counted, and what is included.
    """

    energy_mj: float
    low: float
    high: float
    calls: int
    seconds: float
    power_w: float
    meter: str

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


class Meter(ABC):
    """A counter of energy.

    Attributes:
        about: What is counted.
    """

    about: ClassVar[str]

    @abstractmethod
    def why_unavailable(self) -> str | None:
        """Why nothing can be measured here, and what to do; None if it can."""

    @abstractmethod
    def read(self) -> Sequence[int]:
        """The state of the counter, for `spent_mj`."""

    @abstractmethod
    def spent_mj(self, before: Sequence[int], after: Sequence[int]) -> float:
        """Millijoules between two readings."""


class NoMeter(Meter):
    """The meter of a device that is not of this machine.

    Args:
        device: Name of the device.
    """

    about = "nothing"

    def __init__(self, device: str) -> None:
        self.device = device

    def why_unavailable(self) -> str | None:
        """Always a reason."""
        return (
            f"device {self.device!r} tells latencies only; energy is measured on devices cpu and cuda of this machine."
        )

    def read(self) -> Sequence[int]:
        """There is nothing to read."""
        raise UserError(str(self.why_unavailable()))

    def spent_mj(self, before: Sequence[int], after: Sequence[int]) -> float:
        """There is nothing to read."""
        raise UserError(str(self.why_unavailable()))


class Rapl(Meter):
    """Running average power limit: the counters of the processor packages of Intel and AMD, as Linux shows them.

    Only packages are read: the zones below them are parts of them, `psys` contains them, and the zones of
    `intel-rapl-mmio` are the same counters again.

    Args:
        root: Folder in which the kernel shows power zones.
    """

    about = "RAPL: whole processor packages, idle power and other programs included"

    def __init__(self, root: Path = POWERCAP) -> None:
        self.root = root

    def _packages(self) -> list[Path]:
        zones = sorted(self.root.glob("intel-rapl:*"))
        return [zone for zone in zones if (zone / "name").read_text(encoding="ascii").startswith("package")]

    def why_unavailable(self) -> str | None:
        """The reason: no counter, or one that only root may read."""
        packages = self._packages()
        if not packages:
            return (
                f"there is no energy counter of a processor below {self.root}; it takes Linux on the machine itself (a "
                f"virtual machine has none) and the module intel_rapl_common."
            )
        try:
            self.read()
        except PermissionError:
            return (
                f"{packages[0] / 'energy_uj'} may be read by root only; run: "
                f"sudo chmod a+r {self.root}/intel-rapl:*/energy_uj"
            )
        except (OSError, ValueError) as error:
            return f"the energy counter {packages[0]} cannot be read: {error}."
        return None

    def read(self) -> Sequence[int]:
        """Microjoules and the range of the counter, package by package."""
        return [
            int((package / file).read_text(encoding="ascii"))
            for package in self._packages()
            for file in ("energy_uj", "max_energy_range_uj")
        ]

    def spent_mj(self, before: Sequence[int], after: Sequence[int]) -> float:
        """See `Meter`; a counter that has gone past the end of its range once is mended, more cannot be seen."""
        microjoules = 0
        for start, end, most in zip(before[::2], after[::2], before[1::2], strict=True):
            microjoules += end - start + (most if end < start else 0)
        return microjoules / 1000


class Nvml(Meter):
    """The counter of a GPU of NVIDIA, Volta or newer, in steps of up to a tenth of a second.

    Args:
        index: Index of the GPU, as torch counts them.
    """

    about = "NVML: whole GPU board, idle power and other programs included; the processor is left out"

    def __init__(self, index: int = 0) -> None:
        self.index = index

    def why_unavailable(self) -> str | None:
        """The reason: no GPU, no library, or a GPU without the counter."""
        if not torch.cuda.is_available():
            return "torch finds no GPU on this machine, whose energy could be counted."
        if importlib.util.find_spec("pynvml") is None:
            return (
                "the energy counter of the GPU needs nvidia-ml-py, which is not installed; "
                "run: pip install 'nasbench-framework[energy]'"
            )
        import pynvml

        try:
            self.read()
        except pynvml.NVMLError as error:
            return f"the energy counter of the GPU cannot be read: {error}."
        return None

    def read(self) -> Sequence[int]:
        """Millijoules since the driver was loaded; the GPU is waited for first."""
        import pynvml

        torch.cuda.synchronize(self.index)
        pynvml.nvmlInit()
        try:
            # By its identity: CUDA_VISIBLE_DEVICES changes how torch counts, but not how NVML does.
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(self.index).uuid}")
            return [int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))]
        finally:
            pynvml.nvmlShutdown()

    def spent_mj(self, before: Sequence[int], after: Sequence[int]) -> float:
        """See `Meter`."""
        return float(after[0] - before[0])


def measure_energy(call: Callable[[], object], meter: Meter, *, seconds: float = 3.0, warmup: int = 10) -> Energy:
    """Energy of one call, from calls without a pause for `seconds`, in six parts.

    A counter moves in steps (a millisecond for RAPL, up to a tenth of a second for NVML), so parts much shorter than
    half a second say little.

    Args:
        call: Function that runs one inference.
        meter: Meter that counts.
        seconds: Seconds of all parts together; each makes at least one call.
        warmup: Number of calls that come before and are not counted.

    Raises:
        UserError: The meter is not available, or did not move.
    """
    missing = meter.why_unavailable()
    if missing:
        raise UserError(missing)
    for _ in range(warmup):
        call()
    parts = [_part(call, meter, seconds / PARTS) for _ in range(PARTS)]
    spent_mj, calls, spent_s = (sum(values) for values in zip(*parts, strict=True))
    if spent_mj <= 0:
        raise UserError(
            f"the energy counter did not move in {spent_s:.3g} s; measure for longer than {seconds:g} s, "
            f"or leave energy out on this machine."
        )
    energies_mj = [part_mj / part_calls for part_mj, part_calls, _ in parts]
    return Energy(
        energy_mj=spent_mj / calls,
        low=min(energies_mj),
        high=max(energies_mj),
        calls=int(calls),
        seconds=spent_s,
        power_w=spent_mj / 1000 / spent_s,
        meter=meter.about,
    )


def _part(call: Callable[[], object], meter: Meter, seconds: float) -> tuple[float, int, float]:
    """Millijoules, calls and seconds of one part of a run."""
    calls, before, start = 0, meter.read(), time.perf_counter()
    while not calls or time.perf_counter() - start < seconds:
        call()
        calls += 1
    after, end = meter.read(), time.perf_counter()
    return meter.spent_mj(before, after), calls, end - start
