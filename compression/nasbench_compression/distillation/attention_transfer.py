"""Zagoruyko, Komodakis: Paying More Attention to Attention, ICLR 2017, arXiv:1612.03928."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from nasbench_compression.distillation.features import same_size


def attention_map(features: Tensor) -> Tensor:
    """Mean of the squares over the channels, as a vector of length 1; (n, c, h, w) to (n, h * w)."""
    return functional.normalize(features.square().mean(dim=1).flatten(1), dim=1)


def attention_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean of the squared differences of two attention maps, over positions and images.

    Activation-based, with p = 2. Deviation: the formula of the paper has half the norm of the difference; the square
    and the mean are what the authors computed, with a weight of 1000.

    Args:
        student_features: Feature map of the student, (n, c, h, w).
        teacher_features: Feature map of the teacher, (n, c', h', w'), with any number of channels; the larger map is
            averaged down to the smaller one. No gradient flows into it.

    Returns:
        Scalar.
    """
    student, teacher = same_size(student_features, teacher_features.detach())
    return functional.mse_loss(attention_map(student), attention_map(teacher))
