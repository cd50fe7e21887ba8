"""The peak of a device, measured by products of matrices: no table knows the machine that a run is on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from nasbench.devices.device import processor_name
from nasbench_compression.compilation.backend import torch_threads
from nasbench_compression.timing import cuda_seconds, time_calls, wall_seconds

# Side of the matrices: large enough to be bound by arithmetic, small enough for a product between two interruptions.
SIZE = {"cpu": 512, "cuda": 8192}
SECONDS = 0.5
PRODUCTS = 20  # at least


@dataclass(frozen=True)
class PeakCompute:
    """The fastest of some products of two random square matrices, at 2 operations a multiply-add.

    Attributes:
        flops_per_s: Operations a second.
        device: Name of the processor or of the GPU.
        threads: Threads of the product on a CPU.
        precision: Precision of the matrices.
        size: Side of the matrices.
        products: Number of timed products; the first one, which warms up, was not timed.
        seed: Random seed of the matrices.
    """

    flops_per_s: float
    device: str
    threads: int
    precision: str
    size: int
    products: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def measure_peak_compute(
    device: str = "cpu", *, threads: int = 1, dtype: torch.dtype = torch.float32, seed: int = 0
) -> PeakCompute:
    """Multiply matrices for half a second; global generators and the number of threads are left as they were.

    The fastest product counts, for whatever else the machine does can only slow one down. It is still what a library
    reaches, not what the data sheet promises, so a utilization of 1 is in reach of a large product alone.

    Args:
        device: Where the product runs: "cpu" or "cuda".
        threads: Threads of a product on the CPU.
        dtype: Type of the matrices.
        seed: Random seed of their values.
    """
    size = SIZE[device]
    generator = torch.Generator().manual_seed(seed)
    factors = [torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2)]
    out = torch.empty(size, size, device=device, dtype=dtype)
    with torch.inference_mode(), torch_threads(threads):
        seconds, _ = time_calls(
            lambda: torch.mm(*factors, out=out),
            budget_s=SECONDS,
            min_repeats=PRODUCTS,
            warmup=1,
            warmup_s=0.0,
            tight=0.0,
            timer=cuda_seconds if out.is_cuda else wall_seconds,
        )
    return PeakCompute(
        flops_per_s=2 * size**3 / float(seconds.min()),
        device=torch.cuda.get_device_name() if device == "cuda" else processor_name(),
        threads=threads,
        precision=str(dtype).removeprefix("torch."),
        size=size,
        products=len(seconds),
        seed=seed,
    )
