"""Park, Kim, Lu, Cho: Relational Knowledge Distillation, CVPR 2019, arXiv:1904.05068."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_SMALLEST = 1e-12


def relational_loss(student: Tensor, teacher: Tensor, *, distance_weight: float, angle_weight: float) -> Tensor:
    """The weighted sum of `distance_loss` and `angle_loss`: how images lie to each other, not where they lie.

    Args:
        student: One vector of the student for each image, (n, d).
        teacher: Vectors of the teacher, (n, d'), of any length; no gradient flows into them.
        distance_weight: Weight lambda of RKD-D, 25 in the paper.
        angle_weight: Weight lambda of RKD-A, 50 in the paper.

    Returns:
        Scalar.
    """
    return distance_weight * distance_loss(student, teacher) + angle_weight * angle_loss(student, teacher)


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean Huber loss over the pairs of different images, of distances in units of their mean in the batch."""
    n = len(student)
    differences = _huber(_distances(student), _distances(teacher.detach()))
    return differences / max(n * (n - 1), 1)


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean Huber loss over the triplets of different images, of the cosine of the angle at the second one.

    Needs memory for n^3 cosines and n^2 * d values.
    """
    n = len(student)
    differences = _huber(_cosines(student), _cosines(teacher.detach()))
    return differences / max(n * (n - 1) * (n - 2), 1)


def _huber(student: Tensor, teacher: Tensor) -> Tensor:
    # Summed over all: where images coincide both sides are the same constant, and the mean is over the others.
    return functional.huber_loss(student, teacher, reduction="sum")


def _distances(vectors: Tensor) -> Tensor:
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    n = len(vectors)
    return distances / (distances.sum() / max(n * (n - 1), 1)).clamp(min=_SMALLEST)


def _cosines(vectors: Tensor) -> Tensor:
    """(j, i, k): at j, between i and k."""
    towards = functional.normalize(vectors[None] - vectors[:, None], dim=2)
    return towards @ towards.transpose(1, 2)
