"""The accuracy that guessing may reach."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Guessing:
    """Always saying the most frequent label.

    Attributes:
        share: Share of the images that it is right about, p.
        images: Number of images that accuracy is counted over, n.
    """

    share: float
    images: int

    @classmethod
    def of(cls, labels: torch.Tensor, images: int) -> Guessing:
        """Guessing among `labels` (m,), counted over `images` of them."""
        return cls(int(labels.bincount().max()) / len(labels), images)

    def explains(self, accuracy_pct: float) -> bool:
        """Whether an accuracy is at most two standard deviations above guessing: p + 2 sqrt(p (1 - p) / n).

        Never where that is 100 % or more, as with images of one class: no network could do better then.
        """
        limit = self.share + 2 * math.sqrt(self.share * (1 - self.share) / self.images)
        return limit < 1 and accuracy_pct <= 100 * limit
