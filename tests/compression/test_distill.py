"""The loss against numpy and against its limits, and what training with it does."""

import copy
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn import functional

from nasbench_compression import get_step
from nasbench_compression.distillation.soft_targets import soft_target_loss


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn((6, 10), generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    return student, teacher, torch.arange(6)


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (4.0, 0.9), (20.0, 0.1)])
def test_loss_is_the_one_of_the_paper(logits, temperature, alpha) -> None:
    student, teacher, labels = logits
    p, q = softmax(teacher.numpy() / temperature), softmax(student.numpy() / temperature)
    divergence = (p * np.log(p / q)).sum(axis=1).mean()
    cross_entropy = -np.log(softmax(student.numpy())[np.arange(6), labels.numpy()]).mean()
    expected = alpha * temperature**2 * divergence + (1 - alpha) * cross_entropy
    loss = soft_target_loss(student, teacher, labels, temperature=temperature, alpha=alpha)
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_by_hand() -> None:
    # Two classes; teacher 3/4 to 1/4, student even: KL = 3/4 ln(3/2) + 1/4 ln(1/2), cross-entropy ln 2.
    student, teacher = torch.zeros(1, 2), torch.tensor([[np.log(3.0), 0.0]])
    loss = soft_target_loss(student, teacher, torch.tensor([0]), temperature=1.0, alpha=0.5)
    assert loss.item() == pytest.approx(0.5 * 0.130812 + 0.5 * 0.693147, abs=1e-5)


def test_without_soft_targets_it_is_cross_entropy(logits) -> None:
    student, teacher, labels = logits
    loss = soft_target_loss(student, teacher, labels, temperature=7.0, alpha=0.0)
    assert loss.item() == pytest.approx(functional.cross_entropy(student, labels).item(), rel=1e-12)


def test_a_student_like_its_teacher_has_no_soft_loss(logits) -> None:
    student, _, labels = logits
    assert soft_target_loss(student, student, labels, temperature=3.0, alpha=1.0).item() == pytest.approx(0, abs=1e-12)


def test_gradient_approaches_that_of_matched_logits(logits) -> None:
    """Section 2.1: for a high temperature the gradient is (z - v) / N for logits of zero mean, at any T."""
    student, teacher, labels = logits
    student = (student - student.mean(1, keepdim=True)).requires_grad_(True)
    teacher = teacher - teacher.mean(1, keepdim=True)
    expected = (student - teacher).detach() / 10 / len(student)
    for temperature in (300.0, 3000.0):
        loss = soft_target_loss(student, teacher, labels, temperature=temperature, alpha=1.0)
        (gradient,) = torch.autograd.grad(loss, student)
        torch.testing.assert_close(gradient, expected, rtol=0.05, atol=0.02 * expected.abs().max().item())


def test_no_gradient_reaches_the_teacher(logits) -> None:
    student, teacher, labels = (x.requires_grad_(True) if x.is_floating_point() else x for x in logits)
    soft_target_loss(student, teacher, labels, temperature=2.0, alpha=0.7).backward()
    assert teacher.grad is None and student.grad is not None


class Watched(torch.nn.Module):
    """A teacher that writes down how it was called."""

    calls: ClassVar[list[tuple[bool, bool]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)

    def forward(self, x):
        self.calls.append((self.training, torch.is_grad_enabled()))
        return self.layer(x.flatten(1))


def test_teacher_is_in_evaluation_mode_without_gradients(plain, context) -> None:
    Watched.calls.clear()
    get_step("distill", epochs=1).apply(plain, replace(context, teacher=Watched().train()))
    # Once to see that its logits fit, then 1300 images in batches of 64.
    assert len(Watched.calls) == 1 + 21 and set(Watched.calls) == {(False, False)}


def test_student_moves_to_its_teacher(plain, context) -> None:
    pruned, _ = get_step("prune", ratio=0.6).apply(plain, context)
    teacher = copy.deepcopy(plain).train()  # the step has to put its own copy in evaluation mode
    state = copy.deepcopy(teacher.state_dict())
    student, note = get_step("distill", epochs=3).apply(pruned, replace(context, teacher=teacher))
    assert teacher.training and all(torch.equal(v, state[k]) for k, v in teacher.state_dict().items())
    assert note["val_acc_pct"] == pytest.approx([context.evaluate(pruned), context.evaluate(student)])
    before, after = note["val_acc_pct"]
    assert 100 - after < (100 - before) / 2

    def distance(model: torch.nn.Module) -> float:
        images = context.calibration
        with torch.no_grad():
            targets, log_probs = plain(images).log_softmax(1), copy.deepcopy(model).eval()(images).log_softmax(1)
        return functional.kl_div(log_probs, targets, log_target=True, reduction="batchmean").item()

    assert distance(student) < distance(pruned) / 2
