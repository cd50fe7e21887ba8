"""Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (2015), arXiv:1503.02531."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional


def soft_target_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
    hard: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
) -> Tensor:
    """Alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) * cross-entropy.

    T^2 keeps the size of the soft gradient independent of the temperature, as in section 2 of the paper. The paper
    minimizes the cross-entropy with the soft targets; the KL divergence differs from it by the teacher's entropy,
    a constant, so that the gradients are the same.

    Args:
        student_logits: Logits of the student, (n, classes), or (n, classes, h, w) of pixels.
        teacher_logits: Logits of the teacher, of the same shape; no gradient flows into them.
        labels: Class indices, (n,) or (n, h, w).
        temperature: Temperature T > 0; larger is softer.
        alpha: Weight of the soft targets, from 0 to 1.
        hard: Function (logits, labels) -> mean loss against the labels.

    Returns:
        Scalar, mean over the batch and its pixels, in nats.
    """
    divergence = functional.kl_div(
        functional.log_softmax(student_logits / temperature, dim=1),
        functional.log_softmax(teacher_logits.detach() / temperature, dim=1),
        reduction="sum",
        log_target=True,
    )
    soft = divergence / (student_logits.numel() / student_logits.shape[1])
    return alpha * temperature**2 * soft + (1 - alpha) * hard(student_logits, labels)
