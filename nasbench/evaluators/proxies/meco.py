"""meco: how independent the channels of feature maps are (Jiang, Wang & Bie, MeCo, NeurIPS 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nasbench.evaluators.proxies.probe import Probe, hooked

RANDOM_IMAGES = 4


def meco(probe: Probe) -> float:
    """The sum over modules of the smallest eigenvalue of the correlations of their channels, eq. 3.

    Deviation: over the positions of four random images of the task's size, more of fewer than 32 x 32 pixels, where the
    paper has one of 64 by 64.
    """
    total = 0.0

    def add(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        if isinstance(output, Tensor) and output.ndim == 4:
            channels = output.transpose(0, 1).flatten(1)
            if len(channels) > 1:
                correlation = torch.nan_to_num(torch.corrcoef(channels), nan=0.0, posinf=0.0, neginf=0.0)
                total += float(torch.linalg.eigvalsh(correlation)[0])

    network = probe.network
    with hooked([(module, add) for module in network.modules()]), torch.no_grad():
        network(probe.noise(RANDOM_IMAGES))
    return total
