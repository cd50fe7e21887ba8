"""The number types of convolutions and products."""

from __future__ import annotations

import torch

from nasbench_registry import UserError


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that `torch.autocast` computes in for `training.precision`; None is float32 without autocast.

    Raises:
        UserError: fp16 on a CPU.
    """
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    if precision == "fp16" and device.type != "cuda":
        raise UserError("training.precision fp16 needs a GPU; use bf16 or fp32 on a CPU.")
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
