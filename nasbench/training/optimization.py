"""Which optimizer fits the weights, and how its learning rate goes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from nasbench.training.config import TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig, rate: float) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum 0.9.

    Weight decay is for weights only: pulling biases and batch-norm scales to zero helps nobody.
    """
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    free = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=rate)


def warm_cosine(batches: int, epochs: int, warmup_epochs: float) -> Callable[[int], float]:
    """The share of the full learning rate at a step, counted from 0; an epoch has `batches` steps.

    It rises linearly over `warmup_epochs` (at most a fifth of the epochs) and then falls along a cosine to zero
    (Loshchilov & Hutter 2017, arXiv 1608.03983).
    """
    steps = batches * epochs
    warm = int(batches * min(warmup_epochs, epochs / 5))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor
