"""Each loss against values by hand, against its limits, and in the direction of its gradient."""

import math

import pytest
import torch
from torch.nn import functional

from nasbench_compression.distillation.attention_transfer import attention_loss, attention_map
from nasbench_compression.distillation.decoupled import decoupled_loss
from nasbench_compression.distillation.fitnets import hint_loss
from nasbench_compression.distillation.logit_standardization import standardize, standardized_loss
from nasbench_compression.distillation.relational import angle_loss, distance_loss, relational_loss
from nasbench_compression.distillation.soft_targets import soft_target_loss


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn((6, 10), generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    return student, teacher, torch.arange(6)


def step_down(loss, start: torch.Tensor, *, rate: float, steps: int) -> torch.Tensor:
    value = start.clone().requires_grad_(True)
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(loss(value), value)
        value = (value - rate * gradient).detach().requires_grad_(True)
    return value.detach()


# Logit standardization


def test_standardized_by_hand() -> None:
    # Mean 2, deviation sqrt(2 / 3) of the population.
    scale = math.sqrt(2 / 3)
    assert standardize(torch.tensor([[1.0, 2.0, 3.0]]))[0].tolist() == pytest.approx([-1 / scale, 0, 1 / scale])
    assert standardize(torch.full((1, 4), 5.0)).tolist() == [[0.0] * 4]
    # Two classes are standardized to +1 and -1: at T = 2 the teacher is at p = 1 / (1 + 1/e), the student at 1 - p.
    student, teacher = torch.tensor([[0.0, 4.0]]), torch.tensor([[8.0, 2.0]])
    p = 1 / (1 + math.exp(-1))
    divergence = (2 * p - 1) * math.log(p / (1 - p))
    loss = standardized_loss(student, teacher, torch.tensor([1]), temperature=2.0, alpha=0.25)
    assert loss.item() == pytest.approx(0.25 * 4 * divergence + 0.75 * math.log(1 + math.exp(-4)), rel=1e-5)


def test_standardized_loss_does_not_see_range_and_shift(logits) -> None:
    student, teacher, labels = logits
    for rescaled in (3 * teacher + 7, 0.1 * teacher):
        loss = standardized_loss(rescaled, teacher, labels, temperature=2.0, alpha=1.0)
        assert loss.item() == pytest.approx(0, abs=1e-9)
    assert standardized_loss(student, teacher, labels, temperature=2.0, alpha=1.0) > 0.1
    assert soft_target_loss(3 * teacher, teacher, labels, temperature=2.0, alpha=1.0) > 0.1


# Decoupled


def test_decoupled_by_hand() -> None:
    # Teacher 1/2, 1/4, 1/4 and student 1/3 each, of class 0: among the others both are even.
    student, teacher = torch.zeros(1, 3), torch.tensor([[0.5, 0.25, 0.25]]).log()
    target = 0.5 * math.log(0.5 / (1 / 3)) + 0.5 * math.log(0.5 / (2 / 3))
    one = decoupled_loss(student, teacher, torch.tensor([0]), temperature=1.0, alpha=1.0, beta=8.0)
    assert one.item() == pytest.approx(math.log(3) + target, abs=1e-6)
    # Of class 1 the teacher is at 1/4 and divides the rest 2 to 1, the student is at 1/3 and divides it evenly.
    target = 0.25 * math.log(0.25 * 3) + 0.75 * math.log(0.75 * 3 / 2)
    others = 2 / 3 * math.log(2 / 3 * 2) + 1 / 3 * math.log(1 / 3 * 2)
    two = decoupled_loss(student, teacher, torch.tensor([1]), temperature=1.0, alpha=3.0, beta=8.0)
    assert two.item() == pytest.approx(math.log(3) + 3 * target + 8 * others, abs=1e-6)


def test_decoupled_parts_add_up_to_the_divergence(logits) -> None:
    """Equation 7 of the paper: KL = TCKD + (1 - p of the class) NCKD, image by image; and T^2 stands before it."""
    student, teacher, labels = logits
    for row in range(6):
        one = student[row : row + 1], teacher[row : row + 1], labels[row : row + 1]
        rest = 1 - (one[1] / 3).softmax(1)[0, labels[row]].item()
        whole = soft_target_loss(*one, temperature=3.0, alpha=1.0) + functional.cross_entropy(one[0], one[2])
        assert decoupled_loss(*one, temperature=3.0, alpha=1.0, beta=rest).item() == pytest.approx(whole.item())


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t, y: standardized_loss(s, t, y, temperature=2.0, alpha=1.0),
        lambda s, t, y: decoupled_loss(s, t, y, temperature=4.0, alpha=1.0, beta=8.0) - functional.cross_entropy(s, y),
    ],
    ids=["standardized", "decoupled"],
)
def test_gradients_of_logits_lead_to_the_teacher_and_not_back(logits, loss) -> None:
    student, teacher, labels = logits
    teacher = teacher.requires_grad_(True)
    value = loss(student.requires_grad_(True), teacher, labels)
    value.backward()
    assert teacher.grad is None and student.grad.abs().max() > 0
    teacher, student = teacher.detach(), student.detach()
    assert loss(teacher, teacher, labels).item() == pytest.approx(0, abs=1e-9)
    learned = step_down(lambda s: loss(s, teacher, labels), student, rate=5.0, steps=500)
    assert loss(learned, teacher, labels) < value / 10
    assert (learned.argmax(1) == teacher.argmax(1)).all() and not (student.argmax(1) == teacher.argmax(1)).all()


# Features


def test_hints_by_hand() -> None:
    student, teacher = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 2, 2), torch.tensor([1.0, 0, 3, 8]).view(1, 1, 2, 2)
    assert hint_loss(student, teacher).item() == pytest.approx((4 + 16) / 4)
    # The larger map is averaged down to 2x2.
    large = torch.arange(16.0).view(1, 1, 4, 4)
    assert hint_loss(large, torch.zeros(1, 1, 2, 2)).item() == pytest.approx((2.5**2 + 4.5**2 + 10.5**2 + 12.5**2) / 4)
    assert hint_loss(torch.zeros(1, 1, 2, 2), large).item() == hint_loss(large, torch.zeros(1, 1, 2, 2)).item()


def test_attention_by_hand() -> None:
    # Two channels, two positions: means of squares (9 + 0) / 2 and (0 + 16) / 2, then divided by their norm.
    features = torch.tensor([[[[3.0, 0.0]], [[0.0, 4.0]]]])
    norm = math.hypot(4.5, 8)
    assert attention_map(features)[0].tolist() == pytest.approx([4.5 / norm, 8 / norm])
    one_channel = torch.tensor([[[[1.0, 0.0]]]])  # one channel, which looks at the first position only
    expected = ((4.5 / norm - 1) ** 2 + (8 / norm) ** 2) / 2
    assert attention_loss(features, one_channel).item() == pytest.approx(expected, rel=1e-6)
    assert attention_loss(features, -7 * features).item() == pytest.approx(0, abs=1e-12)


def test_relations_by_hand() -> None:
    # A 3-4-5 triangle against three points on a line with steps of 1: distances (3, 4, 5) / 4 and (1, 1, 2) / (4/3).
    student = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    teacher = torch.tensor([[0.0], [1.0], [2.0]])
    differences = [3 / 4 - 3 / 4, 4 / 4 - 3 / 4, 5 / 4 - 6 / 4]
    distance = sum(0.5 * x**2 for x in differences) / 3
    assert distance_loss(student, teacher).item() == pytest.approx(distance, rel=1e-5)
    # Cosines at the three corners: 3/5, 0, 4/5 against 1, -1, 1; a difference of 1 is where Huber turns linear.
    angle = (0.5 * 0.4**2 + 0.5 * 1.0**2 + 0.5 * 0.2**2) / 3
    assert angle_loss(student, teacher).item() == pytest.approx(angle, rel=1e-5)
    both = relational_loss(student, teacher, distance_weight=25.0, angle_weight=50.0)
    assert both.item() == pytest.approx(25 * distance + 50 * angle, rel=1e-5)
    far = torch.tensor([[0.0], [1.0], [9.0]])  # distances 1, 8, 9 in units of 6
    linear = [abs(3 / 4 - 1 / 6), abs(1 - 8 / 6), abs(5 / 4 - 9 / 6)]
    assert distance_loss(student, far).item() == pytest.approx(sum(0.5 * x**2 for x in linear) / 3, rel=1e-5)


def test_relations_do_not_see_where_things_are() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    moved = 4 * vectors @ turn + 2
    assert relational_loss(moved, vectors, distance_weight=1.0, angle_weight=1.0).item() == pytest.approx(0, abs=1e-12)
    assert relational_loss(vectors.flip(0), vectors, distance_weight=1.0, angle_weight=1.0) > 0.01


def test_images_that_coincide_give_finite_gradients() -> None:
    student = torch.ones(4, 3, requires_grad=True)
    relational_loss(student, torch.eye(4), distance_weight=1.0, angle_weight=1.0).backward()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(
    ("loss", "rate"),
    [
        (hint_loss, 20.0),
        (attention_loss, 100.0),
        (lambda s, t: relational_loss(s.flatten(1), t.flatten(1), distance_weight=1.0, angle_weight=2.0), 3.0),
    ],
    ids=["hints", "attention", "relations"],
)
def test_gradients_of_features_lead_to_the_teacher_and_not_back(loss, rate) -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn((5, 4, 3, 3), generator=generator).requires_grad_(True) for _ in range(2))
    value = loss(student, teacher)
    value.backward()
    assert teacher.grad is None and student.grad.abs().max() > 0
    teacher, student = teacher.detach(), student.detach()
    assert loss(teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    learned = step_down(lambda s: loss(s, teacher), student, rate=rate, steps=100)
    assert loss(learned, teacher) < value / 4
