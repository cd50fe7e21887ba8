"""A stored model as a teacher: which one fits, and when its logits may be kept."""

import dataclasses

import pytest
import torch
from tests_support import experiment_of

from nasbench.experiment.build import prepare
from nasbench.experiment.loading import parse_experiment
from nasbench.models import save_model
from nasbench.models.build import SpaceBuild
from nasbench.models.store import Origin
from nasbench.models.workbench import Workbench
from nasbench.problems.registry import image_classification
from nasbench.training.config import AugmentationConfig, TrainingConfig
from nasbench_compression import get_step
from nasbench_registry import UserError
from search_spaces import Task, get_space


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench(image_classification("digits", training=TrainingConfig(epochs=1, learning_rate=0.01)), seed=0)


def stored(folder, bench, *, classes: int = 10, mean: float | None = None) -> torch.nn.Module:
    space = get_space("mobile")
    arch = space.architecture([0] * len(space.decisions))
    task = Task(bench.problem.data.task.input_shape, classes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = space.build(arch, task).eval()
    numbers = {"mean": [bench.problem.data.mean[0] if mean is None else mean], "std": list(bench.problem.data.std)}
    origin = Origin(data={"name": "digits"}, normalization=numbers)
    save_model(folder, model, build=SpaceBuild("mobile", {}, arch), task=task, origin=origin)
    return model


def test_a_network_learns_from_a_stored_one(bench, tmp_path) -> None:
    teacher = stored(tmp_path / "large", bench)
    student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    step = get_step("distill", epochs=1, teacher=str(tmp_path / "large"))
    distilled, note = step.apply(student, bench.context())
    by_hand, _ = get_step("distill", epochs=1).apply(student, bench.context(teacher))
    assert note["teacher"] == str(tmp_path / "large")
    assert not torch.equal(distilled[1].weight, student[1].weight)
    torch.testing.assert_close(distilled[1].weight, by_hand[1].weight)


def test_a_stored_model_that_does_not_fit_is_refused(bench, tmp_path) -> None:
    stored(tmp_path / "classes", bench, classes=7)
    stored(tmp_path / "scale", bench, mean=0.99)
    for name, words in (("classes", "made for"), ("scale", "images with mean"), ("nowhere", "is no model folder")):
        with pytest.raises(UserError, match=words):
            bench.context().load_teacher(str(tmp_path / name))


@pytest.mark.parametrize(("changes", "recur"), [({}, True), ({"crop": 1}, False), ({"flip": True}, False)])
def test_logits_are_kept_only_where_images_are_not_augmented(bench, changes, recur) -> None:
    training = bench.training.model_copy(update={"augmentation": AugmentationConfig(**changes)})
    problem = dataclasses.replace(bench.problem, training=training)
    assert dataclasses.replace(bench, problem=problem).context().images_recur is recur


def test_a_missing_teacher_is_noticed_before_the_search(tmp_path) -> None:
    recipe = [{"distill": {"epochs": 1, "teacher": str(tmp_path / "nowhere")}}]
    with pytest.raises(UserError, match="nowhere is no model folder"):
        prepare(parse_experiment(experiment_of(recipe=recipe)))
