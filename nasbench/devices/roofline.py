"""The bound of an operator on this machine: arithmetic, memory, or neither (Williams et al. 2009, Roofline).

Peaks are measured, not read from a data sheet: products of matrices for arithmetic, copies for memory, of several
sizes, for a small tensor stays in a cache. What is far from both roofs pays for being called, for rearranging its
data, or for a kernel that does not use the machine; that is called overhead here.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from nasbench.devices.peak_compute import measure_peak_compute
from nasbench_compression.compilation.backend import torch_threads
from nasbench_compression.compilation.profiler import OperatorTime

Bound = Literal["arithmetic", "memory", "overhead"]

SIDE = 512  # of the matrices of int8
WORKING_SETS = (2**15, 2**18, 2**21, 2**24, 2**27)  # bytes that a copy reads and writes
SECONDS = 0.15  # for each peak
NEAR = 0.5  # of a roof: an operator that reaches so much of it is bound by it


@dataclass(frozen=True)
class Roofline:
    """The peaks of this machine.

    Attributes:
        flops_per_s: Operations a second by precision; one multiply-add is two.
        bytes_per_s: Bytes a second of copies, as (bytes read and written, a second), the smallest working set first.
        threads: Number of threads that both were measured with.
    """

    flops_per_s: Mapping[str, float]
    bytes_per_s: Sequence[tuple[int, float]]
    threads: int = 1

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def arithmetic_s(self, macs: int, precision: str) -> float:
        """Seconds that multiply-adds take at least."""
        return 2 * macs / self.flops_per_s.get(precision, self.flops_per_s["fp32"])

    def memory_s(self, moved: int) -> float:
        """Seconds that reading and writing so many bytes takes at least, from where so many fit."""
        speed = next((speed for size, speed in self.bytes_per_s if moved <= size), self.bytes_per_s[-1][1])
        return moved / speed

    def roof_s(self, operator: OperatorTime) -> float:
        """Seconds that an operator takes at least."""
        return max(
            self.arithmetic_s(operator.macs or 0, operator.precision),
            self.memory_s(operator.bytes or 0),
        )

    def bound(self, operator: OperatorTime) -> Bound:
        """The bound on which an operator spends most of its time."""
        arithmetic_s = self.arithmetic_s(operator.macs or 0, operator.precision)
        memory_s = self.memory_s(operator.bytes or 0)
        if max(arithmetic_s, memory_s) < NEAR * operator.seconds:
            return "overhead"
        return "arithmetic" if arithmetic_s >= memory_s else "memory"


def measure_roofline(threads: int = 1) -> Roofline:
    """Measure the peaks in about two seconds; the fastest run of each counts.

    Args:
        threads: Threads of the products; a copy is made by one.
    """
    fp32 = measure_peak_compute(threads=threads).flops_per_s
    generator = torch.Generator().manual_seed(0)
    factors = [torch.randint(-128, 128, (SIDE, SIDE), dtype=torch.int8, generator=generator) for _ in range(2)]
    with torch.inference_mode(), torch_threads(threads):
        int8 = 2 * SIDE**3 / _fastest_s(lambda: torch._int_mm(*factors))
    speeds = []
    for size in WORKING_SETS:
        source, target = np.ones(size // 2, np.uint8), np.empty(size // 2, np.uint8)
        speeds.append((size, size / _fastest_s(functools.partial(np.copyto, target, source))))
    return Roofline({"fp32": fp32, "int8": max(int8, fp32)}, speeds, threads)


def _fastest_s(call: Callable[[], object]) -> float:
    call()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        before = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - before)
    return best
