"""The metrics of each problem against their definitions, by libraries that have them or by hand."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import nn

import nasbench as nb
from nasbench.problems import supervised
from nasbench_registry import UserError

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(90, 4)).astype(np.float32)
VALUES = (ROWS @ RNG.normal(size=(4, 2)) * [10, 0.1] + [300, 5]).astype(np.float32)
IMAGES = RNG.integers(0, 256, (40, 1, 6, 6)).astype(np.uint8)
MASKS = RNG.integers(0, 3, (40, 6, 6))
MASKS[:, 0] = 255


@pytest.fixture(params=[7, 512])
def at_once(request, monkeypatch):
    """Metrics do not depend on how many examples are judged at a time."""
    monkeypatch.setattr(supervised, "JUDGED_AT_ONCE", request.param)


@pytest.mark.parametrize("part", ["val", "test"])
def test_regression_is_judged_in_the_units_of_its_targets(part, at_once):
    problem = nb.regression((ROWS, VALUES), split_seed=1)
    network = nn.Linear(4, 2)
    split = getattr(problem.data, part)
    predicted = problem.decode(network(split.examples).detach().numpy())
    scores, true = problem.score(network, part), split.targets.numpy()
    assert scores[f"{part}_rmse"] == pytest.approx(sk.root_mean_squared_error(true, predicted), rel=1e-4)
    assert scores[f"{part}_mae"] == pytest.approx(sk.mean_absolute_error(true, predicted), rel=1e-4)
    assert scores[f"{part}_r2"] == pytest.approx(sk.r2_score(true, predicted), rel=1e-4)
    assert problem.quality == "val_rmse" and problem.tested("val_rmse") == "test_rmse"


def test_regression_learns_targets_of_any_size():
    """Targets of very different sizes weigh alike, as the loss is in their deviations."""
    problem = nb.regression((ROWS, VALUES), epochs=60, batch_size=16, learning_rate=0.03)
    network = nn.Linear(4, 2)
    before = problem.score(network)
    problem.fit(network, seed=0)
    after = problem.score(network)
    assert after["val_r2"] > before["val_r2"]
    # The targets are linear in the inputs, so that a linear layer explains all of both in the end.
    errors = problem.decode(network(problem.data.val.examples).detach().numpy()) - problem.data.val.targets.numpy()
    assert (np.sqrt((errors**2).mean(0)) < 0.1 * VALUES.std(0)).all()


class Told(nn.Module):
    """Says the class of each pixel that it was given as an image."""

    def forward(self, images):
        return nn.functional.one_hot(images[:, 0].long() % 3, 3).permute(0, 3, 1, 2).float()


def test_mean_iou_is_that_of_the_confusion_matrix(at_once):
    problem = nb.image_segmentation((IMAGES, MASKS))
    scores = problem.score(Told())
    predicted, true = Told()(problem.data.val.examples).argmax(1), problem.data.val.targets
    labelled = true != 255
    predicted, true = predicted[labelled].numpy(), true[labelled].numpy()
    assert scores["val_miou_pct"] == pytest.approx(100 * sk.jaccard_score(true, predicted, average="macro"))
    assert scores["val_pixel_acc_pct"] == pytest.approx(100 * sk.accuracy_score(true, predicted))
    logits = torch.nn.functional.one_hot(torch.from_numpy(predicted), 3).float()
    assert scores["val_loss"] == pytest.approx(
        float(nn.functional.cross_entropy(logits, torch.from_numpy(true))), rel=1e-5
    )


def test_a_class_that_is_nowhere_is_left_out_of_the_mean():
    masks = np.where(MASKS == 2, 0, MASKS)  # class 2 has no pixel in any part, and nothing is told to be of it
    problem = nb.image_segmentation((IMAGES, masks), labels=["ground", "thing"])

    class Ground(nn.Module):
        def forward(self, images):
            return torch.stack([torch.ones_like(images[:, 0]), torch.zeros_like(images[:, 0])], 1)

    true = problem.data.val.targets[problem.data.val.targets != 255]
    share = float((true == 0).float().mean())
    assert problem.score(Ground())["val_miou_pct"] == pytest.approx(100 * share / 2)  # of class 1 nothing is right


def test_accuracy_and_loss_of_classes(at_once):
    problem = nb.image_classification((ROWS, np.where(ROWS[:, 0] > 0, "high", "low")))
    network = nn.Linear(4, 2)
    logits, true = network(problem.data.val.examples).detach(), problem.data.val.targets
    scores = problem.score(network)
    assert scores["val_acc_pct"] == pytest.approx(100 * sk.accuracy_score(true, logits.argmax(1)))
    assert scores["val_loss"] == pytest.approx(sk.log_loss(true, logits.softmax(1).numpy()), rel=1e-5)
    assert problem.data.labels == ("high", "low")


@pytest.mark.parametrize(
    ("problem", "value", "before", "drop"),
    [
        ("regression", 55.0, 50.0, 10.0),
        ("regression", 40.0, 50.0, -20.0),
        ("image_segmentation", 55.0, 60.0, 5.0),
    ],
)
def test_a_loss_of_quality_is_in_points_or_in_percent(problem, value, before, drop):
    """Points where the quality is in percent; else percent of the value before, and larger errors are losses."""
    built = nb.regression((ROWS, VALUES)) if problem == "regression" else nb.image_segmentation((IMAGES, MASKS))
    assert built.drop_pct(value, before) == pytest.approx(drop)
    assert built.better(before, value) == (drop > 0)


def test_a_problem_refuses_targets_of_another_kind():
    with pytest.raises(UserError, match="needs a class for each pixel"):
        nb.image_segmentation("digits")
    with pytest.raises(UserError, match=r"labels such as [\d.]+, which number no class"):
        nb.image_classification((ROWS, VALUES[:, 0]))
    with pytest.raises(UserError, match="regression needs numbers"):
        nb.regression((ROWS, np.array(["a", "b"] * 45)))
