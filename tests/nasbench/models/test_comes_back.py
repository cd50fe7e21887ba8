"""A model is stored only if what is built again from its description computes the same."""

import sys
import types

import pytest
import torch
from torch import nn

from nasbench.models import load_model, save_model
from nasbench.models.build import FunctionBuild
from nasbench_compression import Context, get_step
from nasbench_registry import UserError
from search_spaces import Task

TASK = Task((3, 8, 8), 5)
IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, images):
        return self.head(torch.relu(self.norm(self.stem(images))).mean((2, 3)))


class ConvNorm(nn.Module):
    """Tells the channels of its convolution by a property that cannot be set."""

    def __init__(self, inputs, outputs) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)

    @property
    def in_channels(self):
        return self.convolution.in_channels

    @property
    def out_channels(self):
        return self.convolution.out_channels

    def forward(self, images):
        return torch.relu(self.norm(self.convolution(images)))


class Wrapped(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            *(ConvNorm(3, 16), ConvNorm(16, 24), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5)),
        )


class Tied(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.twin = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.twin.weight = self.body.weight
        self.again = self.body

    def forward(self, images):
        features = torch.relu(self.norm(self.stem(images)))
        return self.head((self.twin(self.again(self.body(features)))).mean((2, 3)))


class DrawsAtRandom(Plain):
    """Computes with a tensor of chance that is not part of its state."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = torch.rand(5)

    def forward(self, images):
        return super().forward(images) + self.noise


class HasAnExtraState(Plain):
    def get_extra_state(self):
        return {"steps": 3}

    def set_extra_state(self, state):
        pass


NETWORKS = (Plain, Wrapped, Tied, DrawsAtRandom, HasAnExtraState)


@pytest.fixture(autouse=True)
def builders(monkeypatch):
    module = types.ModuleType("networks_that_come_back")
    vars(module).update({kind.__name__: kind for kind in NETWORKS})
    monkeypatch.setitem(sys.modules, module.__name__, module)


def context() -> Context:
    return Context(
        example_inputs=IMAGES[:2], calibration=IMAGES, finetune=lambda *args, **options: None, evaluate=len, seed=0
    )


def save(folder, model, kind, steps=()):
    return save_model(folder, model, build=FunctionBuild(f"networks_that_come_back:{kind}"), task=TASK, steps=steps)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Plain, "prune"),
        (Wrapped, "prune"),
        *((kind, name) for kind in NETWORKS[:3] for name in ("quantize", "decompose")),
    ],
)
def test_what_comes_back_is_stored(tmp_path, kind, name) -> None:
    torch.manual_seed(0)
    step = get_step(name, **{"prune": {"ratio": 0.4}, "quantize": {}, "decompose": {"method": "svd"}}[name])
    compressed, note = step.apply(kind().eval(), context())
    save(tmp_path / "model", compressed, kind.__name__, [(step, note)])
    loaded = load_model(tmp_path / "model").model
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES), compressed.eval()(IMAGES))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_network_that_depends_on_chance_is_refused_with_the_number(tmp_path, seed) -> None:
    torch.manual_seed(seed)
    with pytest.raises(
        UserError, match=r"cannot be stored, for what is built again from .*DrawsAtRandom.* off by [\d.]+"
    ):
        save(tmp_path / "model", DrawsAtRandom(), "DrawsAtRandom")
    assert not (tmp_path / "model").exists()


def test_a_hook_of_one_instance_is_refused_and_one_of_the_code_is_not(tmp_path) -> None:
    network = Plain()
    network.head.register_forward_hook(lambda module, args, output: output * 2)
    with pytest.raises(UserError, match="outputs that are off by .* hooks in the code that builds it"):
        save(tmp_path / "model", network, "Plain")


def test_a_structure_that_does_not_come_back_is_refused(tmp_path) -> None:
    network = Plain()
    network.head = nn.Linear(8, 6)
    with pytest.raises(UserError, match=r"cannot be built again from .*Plain.* \(RuntimeError: Error"):
        save(tmp_path / "model", network, "Plain")


def test_a_state_that_is_no_tensor_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match="'_extra_state' in the state of this network is a dict"):
        save(tmp_path / "model", HasAnExtraState(), "HasAnExtraState")
