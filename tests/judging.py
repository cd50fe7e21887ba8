"""Accuracy and loss of a classifier on any split, for tests that look at one by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from nasbench.data import Split
from nasbench.problems.supervised import answers


@dataclass(frozen=True)
class Score:
    """Share of examples whose largest logit is their class, in percent, and mean cross-entropy."""

    accuracy_pct: float
    loss: float


def judge(model: Callable[..., Any], split: Split) -> Score:
    """How good a network or a compiled model is."""
    pairs = list(answers(model, split))
    logits, targets = torch.cat([logits for logits, _ in pairs]), torch.cat([targets for _, targets in pairs])
    right = int((logits.argmax(1) == targets).sum())
    return Score(100 * right / len(targets), float(functional.cross_entropy(logits, targets)))
