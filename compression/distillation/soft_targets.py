"""Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (2015), arXiv:1503.02531."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from compression.checks import check_number
from compression.step import Context, Step, device_of, seeded
from nasbench_registry import UserError


def soft_target_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float
) -> Tensor:
    """Alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) * cross-entropy.

    T^2 keeps the size of the soft gradient independent of the temperature, as in section 2 of the paper. The paper
    minimizes the cross-entropy with the soft targets; the KL divergence differs from it by the teacher's entropy,
    a constant, so that the gradients are the same.

    Args:
        student_logits: (n, classes).
        teacher_logits: (n, classes); no gradient flows into them.
        labels: (n,) class indices.
        temperature: T > 0; larger is softer.
        alpha: weight of the soft targets, from 0 to 1.

    Returns:
        Scalar, mean over the batch, in nats.
    """
    soft = functional.kl_div(
        functional.log_softmax(student_logits / temperature, dim=1),
        functional.log_softmax(teacher_logits.detach() / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return alpha * temperature**2 * soft + (1 - alpha) * functional.cross_entropy(student_logits, labels)


@dataclass(frozen=True, kw_only=True)
class Distill(Step):
    """Train the network on the soft targets of a teacher.

    Attributes:
        temperature: of both softmax functions, above 0.
        alpha: weight of the soft targets against the labels, from 0 to 1.
        epochs: of training.
        learning_rate: None is the experiment's own.

    The teacher is `context.teacher`, in evaluation mode; a recipe takes the network that it started from. The note
    holds the options and `val_acc_pct` as [before, after].
    """

    name: ClassVar[str] = "distill"
    stage: ClassVar[str] = "distilled"
    not_after: ClassVar[frozenset[str]] = frozenset({"quantize", "compile"})
    summary: ClassVar[str] = "knowledge distillation with soft targets"
    source: ClassVar[str] = "Hinton et al., Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531"

    temperature: float = 4.0
    alpha: float = 0.9
    epochs: int
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        check_number("distill temperature", self.temperature, above=0)
        check_number("distill alpha", self.alpha, at_least=0, at_most=1)
        check_number("distill epochs", self.epochs, at_least=1, integer=True)
        check_number("distill learning_rate", self.learning_rate, above=0, optional=True)

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        """See `Step.apply`.

        Raises:
            UserError: the context has no teacher.
        """
        if context.teacher is None:
            raise UserError("distill has no teacher; run it in a Recipe, or set `teacher` of the Context.")
        device = device_of(model)
        teacher = copy.deepcopy(context.teacher).to(device).eval().requires_grad_(False)
        student = copy.deepcopy(model)

        def loss(inputs: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
            with torch.no_grad():
                targets = teacher(inputs)
            return soft_target_loss(logits, targets, labels, temperature=self.temperature, alpha=self.alpha)

        with seeded(context.seed, device=device):
            before = context.evaluate(student)
            context.finetune(student, loss, epochs=self.epochs, learning_rate=self.learning_rate)
            after = context.evaluate(student)
        return student, {**self.options(), "val_acc_pct": [before, after]}

    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """See `Step.restore`; distillation changes weights only."""
        return copy.deepcopy(model)
