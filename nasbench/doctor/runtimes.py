"""Checks of the backends, the GPU and the counters of energy."""

from __future__ import annotations

from collections.abc import Iterator

from nasbench.devices.gpu import why_no_gpu
from nasbench.doctor.finding import Finding
from nasbench_compression import backends
from nasbench_compression.registry import why_no_backend


def look() -> Iterator[Finding]:
    """Every backend, the GPU, and the counters of energy."""
    for name in backends:
        reason = why_no_backend(name)
        if reason is None:
            yield Finding(f"backend {name}", "ok", "ready")
        else:
            text, _, mend = reason.partition("; run: ")
            yield Finding(f"backend {name}", "note", text, mend or None)
    reason = why_no_gpu()
    if reason is not None:
        yield Finding("gpu", "note", reason)
    else:
        import torch

        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield Finding("gpu", "ok", f"{names}; torch was built for CUDA {torch.version.cuda}")
    from nasbench.devices.energy import Nvml, Rapl

    for meter in [Rapl(), *([] if reason else [Nvml()])]:
        missing = meter.why_unavailable()
        yield Finding("energy", "note" if missing else "ok", missing or meter.about)
