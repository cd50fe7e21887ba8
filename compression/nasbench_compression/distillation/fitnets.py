"""Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets, ICLR 2015, arXiv:1412.6550."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression.distillation.features import same_size


def hint_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean of the squared differences of two feature maps.

    Deviation: the paper has half of the sum; the mean, as in Tian et al. (ICLR 2020, arXiv:1910.10699), does not
    depend on the size of the map.

    Args:
        student_features: Feature map of the student after the regressor, (n, c, h, w).
        teacher_features: Feature map of the teacher, (n, c, h', w'); the larger one is averaged down to the smaller
            one. No gradient flows into it.

    Returns:
        Scalar.
    """
    student, teacher = same_size(student_features, teacher_features.detach())
    return functional.mse_loss(student, teacher)


class WithRegressors(nn.Module):
    """A student and the 1x1 convolutions that take its features to the width of the teacher's.

    They are trained together, so that the optimizer of whatever loop trains the student sees them, too; afterwards they
    are thrown away. Deviation: the paper trains up to the hint first and the whole student afterwards.

    Args:
        student: Network, (n, c, h, w) -> (n, classes).
        widths: Channels of the student's and of the teacher's features, for each pair of layers.
    """

    def __init__(self, student: nn.Module, widths: list[tuple[int, int]]) -> None:
        super().__init__()
        self.student = student
        self.regressors = nn.ModuleList([nn.Conv2d(ours, theirs, 1) for ours, theirs in widths])

    def forward(self, inputs: Tensor) -> Any:
        """Outputs of the student."""
        return self.student(inputs)
