"""What a network does in one inference, as a few numbers that explain its latency on any device."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from compression.surgery import inference
from search_spaces import Task

WORK = (
    "calls",
    "dense_convolutions",
    "depthwise_convolutions",
    "dense_macs",
    "depthwise_macs",
    "activation_elements",
    "params",
)


def work(model: nn.Module, task: Task) -> npt.NDArray[np.float64]:
    """The numbers named in `WORK` for one image, an array (len(WORK),); each module keeps its mode.

    `calls` counts modules without parts that were called; `activation_elements` what they wrote. Multiply-adds are
    those of convolutions and linear layers (`depthwise`: more than one group).
    """
    totals = dict.fromkeys(WORK, 0.0)

    def add(module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, torch.Tensor) or isinstance(module, nn.Identity | nn.Dropout):
            return
        totals["calls"] += 1
        totals["activation_elements"] += output.numel()
        if isinstance(module, nn.Conv2d):
            kind = "depthwise" if module.groups > 1 else "dense"
            totals[f"{kind}_convolutions"] += 1
            totals[f"{kind}_macs"] += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            totals["dense_macs"] += output.numel() * module.in_features

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [module.register_forward_hook(add) for module in leaves]
    try:
        with inference(model):
            model(torch.zeros(1, *task.input_shape))
    finally:
        for handle in handles:
            handle.remove()
    totals["params"] = sum(parameter.numel() for parameter in model.parameters())
    return np.array([totals[name] for name in WORK])
