"""How good a network is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from nasbench.data import Split
from nasbench.training.errors import Diverged


@dataclass(frozen=True)
class Score:
    """How good a network is on a split.

    Attributes:
        accuracy_pct: share of images whose largest logit is the label, in percent.
        loss: mean cross-entropy.
    """

    accuracy_pct: float
    loss: float


def score(
    predict: Callable[[torch.Tensor], torch.Tensor],
    data: Split,
    batch_size: int = 512,
    device: torch.device | str | None = None,
) -> Score:
    """Accuracy and loss of anything that maps images to logits.

    Args:
        predict: (n, c, h, w) -> (n, classes).
        data: what it is judged on.
        batch_size: images at a time.
        device: where `predict` takes its images; None gives it them where they are.

    Raises:
        Diverged: a logit is not finite.
    """
    correct, loss = 0, 0.0
    with torch.no_grad():
        for start in range(0, len(data), batch_size):
            images, labels = data.images[start : start + batch_size], data.labels[start : start + batch_size]
            if device is not None:
                images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            logits = predict(images)
            if not bool(logits.isfinite().all()):
                raise Diverged("the network gives logits that are not finite")
            correct += int((logits.argmax(1) == labels).sum())
            loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
    return Score(100 * correct / len(data), loss / len(data))
