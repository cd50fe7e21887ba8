"""Whether there is a GPU, asked without PyTorch where there is no driver for one."""

from __future__ import annotations

import ctypes
import sys
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
