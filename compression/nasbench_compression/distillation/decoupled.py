"""Zhao, Cui, Song, Qiu, Liang: Decoupled Knowledge Distillation, CVPR 2022, arXiv:2203.08679."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def decoupled_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
    beta: float,
) -> Tensor:
    """Cross-entropy + T^2 * (alpha * TCKD + beta * NCKD).

    TCKD is the KL divergence between teacher and student as to whether an image is of its class or not; NCKD is that
    between their distributions over the other classes. With alpha = 1 and beta = 1 - p(class) of the teacher they add
    up to the KL divergence of Hinton et al.; the point of the paper is that this beta is small where the teacher is
    sure. Deviation: the soft part is not warmed up over the first epochs.

    Args:
        student_logits: Logits of the student, (n, classes).
        teacher_logits: Logits of the teacher, (n, classes); no gradient flows into them.
        labels: Class indices, (n,).
        temperature: Temperature T > 0 of both networks.
        alpha: Weight of TCKD.
        beta: Weight of NCKD.

    Returns:
        Scalar, mean over the batch, in nats.
    """
    student_target, student_others = _decouple(student_logits / temperature, labels)
    teacher_target, teacher_others = _decouple(teacher_logits.detach() / temperature, labels)
    target = functional.kl_div(student_target, teacher_target, reduction="batchmean", log_target=True)
    other_classes = functional.kl_div(student_others, teacher_others, reduction="batchmean", log_target=True)
    soft = temperature**2 * (alpha * target + beta * other_classes)
    return functional.cross_entropy(student_logits, labels) + soft


def _decouple(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the class and of all others, (n, 2), and among the others, (n, classes - 1)."""
    is_target = functional.one_hot(labels, logits.shape[1]).bool()
    other_logits = logits[~is_target].view(len(logits), -1)
    binary = torch.stack([logits[is_target], other_logits.logsumexp(dim=1)], dim=1)
    return binary.log_softmax(dim=1), other_logits.log_softmax(dim=1)
