"""Timing on a GPU: between two events of its own clock."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path


def why_no_gpu() -> str | None:
    """Why nothing can be measured on a GPU here, or None; torch is asked where there is a driver for one."""
    if _may_have_driver():
        import torch

        if torch.cuda.is_available():
            return None
    return "torch finds no GPU on this machine; measure on the CPU instead."


def _may_have_driver() -> bool:
    if sys.platform != "linux" or Path("/dev/kfd").exists():  # the driver of AMD's
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def cuda_seconds(call: Callable[[], object]) -> float:
    """Seconds that the GPU takes for a call, between two events on the current stream.

    A call returns when its kernels are in the queue, not when they are done. So the queue is emptied before the first
    event, and the second one is waited for: the clock of the host would time the queueing.
    """
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # of torch
    torch.cuda.synchronize()
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000  # it gives milliseconds
