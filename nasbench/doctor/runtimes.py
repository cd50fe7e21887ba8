"""Checks of the backends, the GPU and the counters of energy."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import Any

from nasbench.devices.gpu import why_no_gpu
from nasbench.doctor.finding import Finding
from nasbench_compression import backends
from nasbench_compression.registry import why_no_backend


def look() -> Iterator[Finding]:
    """PyTorch, every backend, the GPU, and the counters of energy; nothing runs without the first."""
    try:
        import torch
    except Exception as error:  # whatever a broken installation raises
        yield Finding(
            "torch",
            "problem",
            f"torch cannot be imported ({type(error).__name__}: {' '.join(str(error).split())}), "
            f"so no backend can run.",
            "pip install --force-reinstall torch",
        )
        return
    yield from int8_findings(torch.cpu.get_capabilities())
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
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield Finding("gpu", "ok", f"{names}; torch was built for CUDA {torch.version.cuda}")
    from nasbench.devices.energy import Nvml, Rapl

    for meter in [Rapl(), *([] if reason else [Nvml()])]:
        missing = meter.why_unavailable()
        yield Finding("energy", "note" if missing else "ok", missing or meter.about)


def int8_findings(capabilities: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the processor has instructions for int8, where it is one that may have them.

    Args:
        capabilities: `torch.cpu.get_capabilities()`.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return
    if capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"):
        yield Finding("int8", "ok", "the processor has instructions for int8 (VNNI)")
    else:
        yield Finding(
            "int8",
            "note",
            "the processor has no instructions for int8 (VNNI): int8 is little faster, and kernels may cut off sums.",
            "try it before you choose int8: nasbench explain MODEL --backend openvino --precision int8",
        )
