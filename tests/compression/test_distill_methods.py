"""What the step does around the losses: layers, regressors, teachers from folders, logits that are kept."""

import copy
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bounds import check_below, check_learned
from compression_networks import NETWORKS
from torch import nn

from nasbench_compression import get_step
from nasbench_compression.distillation.distill import METHODS, ON_FEATURES
from nasbench_compression.distillation.features import last_map
from nasbench_compression.distillation.teacher import Teacher
from nasbench_registry import UserError


def small_network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(
            *(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU()),
            *(nn.Conv2d(12, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)),
        )


@pytest.fixture
def taught(context, plain):
    return replace(context, teacher=plain, images_recur=True)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_a_small_network(taught, method) -> None:
    student = small_network()
    distilled, note = get_step("distill", method=method, epochs=12, learning_rate=0.01).apply(student, taught)
    assert note["val_acc_pct"] == pytest.approx([taught.evaluate(student), taught.evaluate(distilled)])
    check_learned("accuracy", note["val_acc_pct"][1], images=497)
    assert {name: note[name] for name in METHODS[method]} == METHODS[method]
    assert note.get("layers") == ([["5", "features"]] if method in ON_FEATURES else None)
    assert distilled.state_dict().keys() == student.state_dict().keys()  # no regressor is left
    assert not any(module._forward_hooks for module in distilled.modules())


@pytest.mark.parametrize("method", ON_FEATURES)
def test_the_term_on_features_decides_what_is_learned(taught, plain, method) -> None:
    """The same training with the term and without it: only with it do the features come to the teacher's."""
    from nasbench_compression.distillation.attention_transfer import attention_loss
    from nasbench_compression.distillation.relational import relational_loss

    weights = ("distance_weight", "angle_weight") if method == "relational" else ("beta",)
    layers = {"student_layers": ["5"], "teacher_layers": ["features.5"]}
    images = taught.calibration[:100]

    def distance(model: nn.Module) -> float:
        with torch.no_grad():
            ours, theirs = model[:6](images), plain.features[:6](images)
            if method == "attention_transfer":
                return attention_loss(ours, theirs).item()
            if method == "relational":
                return relational_loss(ours.mean((2, 3)), theirs.mean((2, 3)), distance_weight=1, angle_weight=2).item()
            # How much of the teacher's features a linear map of the student's explains, which is what a regressor is.
            x = ours.movedim(1, -1).flatten(0, 2)
            x, y = torch.cat([x, torch.ones(len(x), 1)], 1), theirs.movedim(1, -1).flatten(0, 2)
            return (y - x @ torch.linalg.lstsq(x, y).solution).square().mean().item() / y.var(0).mean().item()

    distances = []
    for options in ({}, dict.fromkeys(weights, 0.0)):
        step = get_step("distill", method=method, epochs=6, learning_rate=0.01, **layers, **options)
        distilled, note = step.apply(small_network(), taught)
        assert note["layers"] == [["5", "features.5"]]
        distances.append(distance(distilled.eval()))
    ratio = distances[0] / distances[1]  # with the term, to without
    check_below("distance to the teacher's features", ratio, mean=0.134, sd=0.079, n=27, most=0.8)


def test_regressors_are_trained_with_the_student(taught) -> None:
    before: dict[str, torch.Tensor] = {}
    after: dict[str, torch.Tensor] = {}

    def finetune(model, *args, **options):
        before.update({name: value.clone() for name, value in model.named_parameters()})
        taught.finetune(model, *args, **options)
        after.update(model.named_parameters())

    context = replace(taught, finetune=finetune)
    layers = {"student_layers": ["2", "5"], "teacher_layers": ["features.2", "features.5"]}
    get_step("distill", method="fitnets", epochs=1, **layers).apply(small_network(), context)
    shapes = {name: tuple(value.shape) for name, value in after.items() if name.startswith("regressors")}
    assert shapes["regressors.0.weight"] == (16, 12, 1, 1) and shapes["regressors.1.weight"] == (32, 24, 1, 1)
    assert all(not torch.equal(value, before[name]) for name, value in after.items())


def test_the_last_map_is_what_comes_before_the_pooling(context) -> None:
    inputs = context.example_inputs
    assert last_map(NETWORKS["plain"](), inputs) == "features"
    assert last_map(NETWORKS["residual"](), inputs) == "grouped"
    assert last_map(small_network(), inputs) == "5"
    with pytest.raises(UserError, match="no feature map"):
        last_map(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), inputs)


def test_layers_that_do_not_fit_are_refused(taught) -> None:
    def apply(method: str, **options):
        return get_step("distill", method=method, epochs=1, **options).apply(small_network(), taught)

    with pytest.raises(UserError, match="'feature' in distill teacher_layers.*Did you mean 'features'"):
        apply("fitnets", student_layers=["3"], teacher_layers=["feature"])
    with pytest.raises(UserError, match="single position"):
        apply("attention_transfer", student_layers=["6"], teacher_layers=["features"])
    with pytest.raises(UserError, match="as many of one as of the other"):
        apply("fitnets", student_layers=["3"])
    with pytest.raises(UserError, match="no use for"):
        apply("decoupled", student_layers=["3"], teacher_layers=["features"])


def test_a_token_network_can_be_taught(taught) -> None:
    class Tokens(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.embed = nn.Linear(4, width)
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, 10)

        def forward(self, x):
            return self.head(self.norm(self.embed(x.flatten(1).view(len(x), 16, 4))).mean(1))

    teacher, student = Tokens(12), Tokens(6)
    context = replace(taught, teacher=teacher)
    for method in ON_FEATURES:
        distilled, note = get_step("distill", method=method, epochs=1).apply(student, context)
        assert note["layers"] == [["norm", "norm"]]
        assert not torch.equal(distilled.embed.weight, student.embed.weight)


class Counting(nn.Module):
    """A teacher that counts the images it is shown."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        type(self).image_count += len(x)
        return self.network(x)

    image_count = 0


def shown(context, teacher, **options) -> tuple[int, dict[str, torch.Tensor]]:
    Counting.image_count = 0
    context = replace(context, teacher=Counting(teacher))
    distilled, _ = get_step("distill", epochs=3, **options).apply(small_network(), context)
    return Counting.image_count, distilled.state_dict()


def test_a_teacher_is_asked_once_for_each_image(context, plain, digits) -> None:
    count, checked = len(digits.train_images), 2
    distinct = len(digits.train_images.flatten(1).unique(dim=0))
    kept, weights = shown(replace(context, images_recur=True), plain)
    assert kept <= checked + count and kept >= checked + distinct
    each_time, same_weights = shown(replace(context, images_recur=False), plain)
    assert each_time == checked + 3 * count
    for name, value in weights.items():
        torch.testing.assert_close(value, same_weights[name], atol=1e-3, rtol=1e-3)
    features, _ = shown(replace(context, images_recur=True), plain, method="fitnets")
    assert features > 3 * count  # features are not kept


def test_kept_logits_are_those_of_the_image() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    teacher = Teacher(copy.deepcopy(network), keep=True)
    images = torch.randn(20, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    for rows in (torch.arange(8), torch.tensor([7, 12, 3, 12]), torch.arange(19, -1, -1)):
        batch = images[rows].contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(teacher.logits(batch), network(batch))
    changed = images[:1].clone()
    changed[0, 0, 0, 0] += 1e-4  # another image, however little it differs
    torch.testing.assert_close(teacher.logits(changed), network(changed), atol=1e-6, rtol=0)
    assert not torch.equal(teacher.logits(changed), teacher.logits(images[:1]))


def test_a_teacher_from_a_folder(context, plain) -> None:
    folders = []

    def load(folder: str) -> nn.Module:
        folders.append(folder)
        return copy.deepcopy(plain)

    step = get_step("distill", epochs=1, teacher="runs/large")
    loading = replace(context, teacher=small_network(), load_teacher=load)
    distilled, note = step.apply(small_network(), loading)
    assert folders == ["runs/large"] and note["teacher"] == "runs/large"
    by_hand, _ = get_step("distill", epochs=1).apply(small_network(), replace(context, teacher=plain))
    assert all(torch.equal(value, by_hand.state_dict()[name]) for name, value in distilled.state_dict().items())
    with pytest.raises(UserError, match="'runs/large', and nothing here can load it"):
        step.apply(small_network(), context)


def test_a_teacher_of_other_classes_is_refused(context) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
    with pytest.raises(UserError, match=r"\(2, 7\) where the network gives \(2, 10\)"):
        get_step("distill", epochs=1).apply(small_network(), replace(context, teacher=teacher))


def test_the_example_of_the_page_runs(capsys) -> None:
    text = (Path(__file__).parents[2] / "docs/distillation.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    with torch.random.fork_rng():
        exec(compile(script, "docs/distillation.md", "exec"), {})
    reached = {line.split()[0]: float(line.split()[1]) for line in capsys.readouterr().out.splitlines()}
    assert len(reached) == 7
    for name, accuracy in reached.items():
        check_learned(name, accuracy, images=497)
