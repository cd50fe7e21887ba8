"""Sun, Ren, Li, Wang, Cao: Logit Standardization in Knowledge Distillation, CVPR 2024, arXiv:2403.01265."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from nasbench_compression.distillation.soft_targets import soft_target_loss

_SMALLEST = 1e-7  # added to the deviation, for logits that are all equal


def standardize(logits: Tensor) -> Tensor:
    """(z - mean) / deviation over the classes of each image; (n, classes) to (n, classes).

    The deviation is that of the population, sqrt(sum (z - mean)^2 / classes).
    """
    centred = logits - logits.mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True).sqrt() + _SMALLEST)


def standardized_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
    hard: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
) -> Tensor:
    """`soft_target_loss` whose soft part sees standardized logits.

    A student need not match the range of its teacher's logits then, only their relations; the labels see the logits as
    they are. The paper weights the two parts 9 and 0.1 at temperature 2; here they are alpha and 1 - alpha.

    Args:
        student_logits: Logits of the student, (n, classes).
        teacher_logits: Logits of the teacher, (n, classes); no gradient flows into them.
        labels: Class indices, (n,).
        temperature: Temperature of both softmax functions over standardized logits, in units of their deviation, above
            0.
        alpha: Weight of the soft targets, from 0 to 1.
        hard: Function (logits, labels) -> mean loss against the labels.

    Returns:
        Scalar, mean over the batch, in nats.
    """
    soft = soft_target_loss(
        standardize(student_logits), standardize(teacher_logits), labels, temperature=temperature, alpha=1.0, hard=hard
    )
    return alpha * soft + (1 - alpha) * hard(student_logits, labels)
