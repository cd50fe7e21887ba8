"""Where candidates were trained on a GPU, all that follows the search is computed there, too."""

from dataclasses import replace

import pytest
import torch
from emulated_gpu import NAME, EmulatedGpu
from tests_support import begin, experiment_of
from torch import nn

import nasbench as nb
from nasbench.evaluators.trained import TrainingLimits
from nasbench.experiment.build import Brought, prepare
from nasbench.experiment.loading import parse_experiment
from nasbench.experiment.run import run_search
from nasbench.models.workbench import Workbench
from nasbench.problems.supervised import Supervised
from nasbench.survivors.config import GateConfig
from nasbench.survivors.stages import run_recipe
from nasbench.training.loop import train
from nasbench_compression import Recipe
from nasbench_registry import UserError

LENIENT = GateConfig(max_drop_pct=100, must_save=False)
STEPS = [
    {"prune": {"ratio": 0.25, "epochs": 1}},
    {"sparsify": {"sparsity": 0.5, "epochs": 1}},
    {"sparsify": {"sparsity": 0.5, "epochs": 1, "importance": "movement"}},
    {"sparsify": {"pattern": "2:4", "epochs": 1}},
    {"decompose": {"epochs": 1}},
    {"distill": {"epochs": 1}},
    {"distill": {"epochs": 1, "method": "decoupled"}},
    {"distill": {"epochs": 1, "method": "logit_standardization"}},
    {"distill": {"epochs": 1, "method": "fitnets"}},
    {"distill": {"epochs": 1, "method": "attention_transfer"}},
    {"distill": {"epochs": 1, "method": "relational"}},
    {"quantize": {"precision": "int8", "method": "qat", "epochs": 1}},
]


@pytest.fixture
def gpu(monkeypatch):
    """An emulated GPU, on which networks may be trained."""
    monkeypatch.setattr("nasbench.training.training.DEVICES", ("cpu", NAME))
    with EmulatedGpu() as gpu:
        yield gpu


@pytest.fixture(scope="module")
def problem():
    """Few images, that a step takes no second."""
    problem = nb.image_classification("digits", batch_size=64, epochs=1).fewer(64, 0)
    return replace(problem, data=replace(problem.data, train=problem.data.train.rows(slice(192))))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    ).eval()


@pytest.mark.parametrize("entry", STEPS, ids=str)
def test_each_step_is_fine_tuned_there(entry, gpu, problem) -> None:
    stages = run_recipe(network(), Recipe.parse([entry]), Workbench(problem, 0, trains_on=NAME), LENIENT)
    assert [stage.reason for stage in stages] == [None, None]
    assert gpu.operations > 200  # of three batches, forwards and backwards
    left = {value.device.type for stage in stages for value in stage.model.state_dict().values()}
    assert left == {"cpu"}


def test_what_lies_elsewhere_is_refused_there(gpu) -> None:
    with pytest.raises(RuntimeError, match="two devices"):
        torch.ones(3).to(NAME) + torch.ones(3)


def test_a_search_and_its_survivors_ask_for_it(tmp_path, monkeypatch, problem) -> None:
    """Search, fine-tuning, judging of each stage on validation and test images."""
    devices = {"begin": [], "fit": [], "score_on": []}

    def recorded(name, place):
        original = getattr(Supervised, name)

        def call(self, *args, **kwargs):
            if place is None:
                devices[name].append(kwargs.pop("device"))
                return original(self, *args, device="cpu", **kwargs)
            devices[name].append(args[place])
            return original(self, "cpu", *args[1:], **kwargs)

        monkeypatch.setattr(Supervised, name, call)

    for name, place in (("begin", None), ("fit", None), ("score_on", 0)):
        recorded(name, place)
    for name in ("device", "device_here"):
        monkeypatch.setattr(TrainingLimits, name, property(lambda self: NAME))
    recipe = [{"prune": {"ratio": 0.25, "epochs": 1}}, {"distill": {"epochs": 1}}, {"quantize": {"precision": "int8"}}]
    gate = {"max_drop_pct": 100, "must_save": False}
    experiment = parse_experiment(
        experiment_of(search={"candidates": 2}, survivors=1, recipe=recipe, gate=gate, executor={"name": "inline"})
    )
    begun = begin(tmp_path / "run", experiment, Brought(problem=problem))
    report = run_search(begun.prepared, begun.folder, handle_signals=False)
    (survivor,) = report["survivors"]
    assert [stage["accepted"] for stage in survivor["stages"]] == [True] * 4
    assert all(set(used) == {NAME} for used in devices.values())
    # Two candidates; two steps with training; a validation each, three of distill and prune, and the test images.
    assert len(devices["begin"]) == 2 and len(devices["fit"]) == 2 and len(devices["score_on"]) >= 2 + 4 + 4


class TestHalfPrecision:
    """The path of fp16 on a processor, where it is refused only for being slow; so the refusal is taken away."""

    @pytest.fixture
    def bench(self, monkeypatch, problem):
        """A workbench for a GPU, and the devices that it asks for."""
        devices = []
        monkeypatch.setattr("nasbench.training.training.autocast_type", lambda precision, device: torch.float16)
        monkeypatch.setattr(
            "nasbench.problems.supervised.train",
            lambda *args, device, **options: devices.append(device) or train(*args, device="cpu", **options),
        )
        monkeypatch.setattr(Supervised, "score_on", lambda self, device, model, part="val": self.score(model, part))
        half = replace(problem, training=problem.training.model_copy(update={"precision": "fp16"}))
        return Workbench(half, 0, trains_on="cuda"), devices

    @pytest.mark.parametrize("entry", [STEPS[index] for index in (0, 2, 5, 9)], ids=str)
    def test_survivors_are_fine_tuned_in_it(self, entry, bench) -> None:
        workbench, devices = bench
        stages = run_recipe(network(), Recipe.parse([entry]), workbench, LENIENT)
        assert [stage.reason for stage in stages] == [None, None]
        assert devices == ["cuda"]
        assert all(value.isfinite().all() for value in stages[-1].model.state_dict().values())

    @pytest.mark.only_where(not torch.cuda.is_available())
    def test_without_a_gpu_it_is_refused_before_the_search(self) -> None:
        config = experiment_of(
            survivors=1, recipe=[STEPS[0]], training={"epochs": 1, "precision": "fp16"}, executor={"name": "inline"}
        )
        with pytest.raises(UserError, match="survivors are fine-tuned in this process"):
            prepare(parse_experiment(config))
