"""A stored model and a run notice that the code which builds their networks was edited."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

import nasbench as nb
from nasbench.models import load_model, save_model
from nasbench.models.build import SpaceBuild
from nasbench.models.reference import difference, reference, reference_input
from nasbench.storage.accept import ACCEPT
from nasbench_registry import UserError
from search_spaces import Task, TensorSpec, get_space
from search_spaces.fresh_model import fresh_model

SPACE = """
from pathlib import Path

from torch import nn

from edited_blocks import activation
from search_spaces import Decision, SearchSpace


class Tiny(SearchSpace):
    name = "tiny"
    decisions = (Decision("width", (4, 6, 8)), Decision("kernel", (1, 3)))

    def build(self, arch, task):
        choice = self.choices(arch)
        width, kernel = choice["width"], choice["kernel"]
        return nn.Sequential(
            nn.Conv2d(task.input_shape[0], width, kernel, padding=kernel // 2),
            activation(),
            Scale(float((Path(__file__).parent / "scale.txt").read_text())),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * width, task.classes),
        )


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor
"""
TASK = Task((1, 8, 8), 10)


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """Write the user's files, and let them be imported anew; each call is an edit."""
    place = tmp_path / "user"
    place.mkdir()
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # an edit within a second would not be noticed by Python

    def write(activation="ReLU", scale="1.0", space=SPACE):
        (place / "edited_space.py").write_text(space)
        (place / "edited_blocks.py").write_text(f"from torch import nn\n\nactivation = nn.{activation}\n")
        (place / "scale.txt").write_text(scale)
        forget()
        return place

    def forget():
        for name in ("edited_space", "edited_blocks"):
            sys.modules.pop(name, None)

    yield write
    forget()


@pytest.fixture
def stored(edit, tmp_path):
    edit()
    space = get_space("edited_space:Tiny")
    arch = space.architecture([1, 1])
    model = fresh_model(space, arch, TASK, 0)
    save_model(tmp_path / "model", model, build=SpaceBuild("edited_space:Tiny", {}, arch), task=TASK)
    return tmp_path / "model"


def test_unchanged_code_loads(stored, edit):
    edit()
    assert isinstance(load_model(stored).model[1], nn.ReLU)
    edit(space="# another comment\n" + SPACE)
    assert isinstance(load_model(stored).model[1], nn.ReLU)


def test_an_edit_is_refused_with_the_file_that_changed(stored, edit):
    place = edit("Tanh")
    with pytest.raises(UserError) as caught:
        load_model(stored)
    text = str(caught.value)
    assert f"edited_blocks ({place / 'edited_blocks.py'}) was edited" in text
    assert "--accept-changed-code" in text
    assert "\n" not in text


def test_an_edit_may_be_accepted(stored, edit, monkeypatch):
    edit("Tanh")
    assert isinstance(load_model(stored, accept_changed_code=True).model[1], nn.Tanh)
    assert isinstance(nb.load(stored, accept_changed_code=True).network[1], nn.Tanh)
    monkeypatch.setenv(ACCEPT, "1")  # as the option of a command tells it to the processes that it starts
    assert isinstance(load_model(stored).model[1], nn.Tanh)
    with pytest.raises(UserError):
        load_model(stored, accept_changed_code=False)


def test_what_no_digest_sees_is_seen_by_the_reference_input(stored, edit):
    edit(scale="1.5")
    with pytest.raises(UserError, match="outputs for a reference input are off by .* of the largest"):
        load_model(stored)
    assert load_model(stored, accept_changed_code=True).model[2].factor == 1.5


def test_other_versions_are_named_where_outputs_differ(stored, edit):
    about = json.loads((stored / "model.json").read_text())
    about["code"]["versions"]["torch"] = "1.0"
    (stored / "model.json").write_text(json.dumps(about))
    edit()
    load_model(stored)  # another version that computes the same is no fault
    edit(scale="1.5")
    with pytest.raises(UserError, match="torch was 1.0 and is"):
        load_model(stored)


class Noise(nn.Module):
    def forward(self, x):
        return torch.rand(len(x), 3)


class Several(nn.Module):
    def forward(self, x):
        return {"first": x.mean((1, 2)), "others": (x.sum(3), [x])}


class Fails(nn.Module):
    def forward(self, x):
        raise ValueError("not for noise")


def test_networks_that_answer_differently_each_time_or_not_at_all():
    task, unfit = Task((1, 4, 4), 2), nn.Conv2d(2, 2, 1)
    state = torch.get_rng_state()
    assert reference(Noise(), task) == {"none": "its outputs differ from one time to the next"}
    assert "not for noise" in reference(Fails(), task)["none"]
    assert reference(unfit, task)["none"].startswith("RuntimeError")
    assert torch.equal(state, torch.get_rng_state())
    broken = nn.Conv2d(1, 1, 1)
    nn.init.constant_(broken.weight, float("nan"))
    assert reference(broken, task) == {"none": "its outputs are not finite numbers"}
    assert difference(nn.Identity(), task, {"none": "whatever"}) is None


def test_outputs_in_any_form_are_compared():
    task = Task((1, 4, 4), 2)
    stored = reference(Several(), task)
    assert difference(Several(), task, json.loads(json.dumps(stored))) is None
    assert "numbers in place of" in difference(nn.Identity(), task, stored)
    assert "ends in ValueError" in difference(Fails(), task, stored)


def test_the_reference_input_never_changes():
    published = [0.5488135, 0.71518937, 0.60276338, 0.54488318]  # of numpy.random.RandomState(0), in many a tutorial
    expected = [(value - 0.5) * 12**0.5 for value in published]
    task = Task(inputs=TensorSpec((2, 3)), outputs=TensorSpec((1,)))
    assert reference_input(task)[0].flatten()[:4].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_mode_of_a_network_stays(stored, edit):
    edit()
    model = load_model(stored).model.train()
    reference(model, TASK)
    assert all(module.training for module in model.modules())


# ---- runs

OBJECTIVES = {"val_acc_pct": "max"}


def search(folder, **changes):
    options = {
        "space": "edited_space:Tiny",
        "problem": nb.image_classification("digits", epochs=1),
        "objectives": OBJECTIVES,
        "candidates": 2,
        "progress": False,
    }
    return nb.search(folder=folder, **options | changes)


def test_a_run_does_not_go_on_with_other_code(edit, tmp_path):
    edit()
    first = search(tmp_path / "run")
    weights = first.best.network()
    edit("Tanh")
    with pytest.raises(UserError, match=r"edited_blocks .* was edited"):
        nb.resume(tmp_path / "run", progress=False)
    with pytest.raises(UserError, match=r"edited_blocks .* was edited"):
        nb.Result.read(tmp_path / "run").best.network()
    edit()
    again = nb.resume(tmp_path / "run", progress=False)  # undone
    (x,) = reference_input(Task((1, 8, 8), 10))
    torch.testing.assert_close(again.best.network()(x), weights(x))
    edit(scale="2.0")
    with pytest.raises(UserError, match="outputs for a reference input are off"):
        nb.resume(tmp_path / "run", progress=False)
    edit("Tanh")
    nb.resume(tmp_path / "run", accept_changed_code=True, progress=False)
    assert json.loads((tmp_path / "run" / "code.json").read_text())["accepted"]
    nb.resume(tmp_path / "run", progress=False)  # what was accepted is known


def test_a_run_does_not_go_on_with_other_images(edit, tmp_path):
    edit()
    file = tmp_path / "d.safetensors"

    def write(seed):
        images = np.random.default_rng(seed).random((200, 1, 8, 8), dtype=np.float32)
        save_file({"images": images, "labels": np.arange(200) % 2}, file)

    write(0)
    problem = nb.image_classification("arrays", path=str(file), epochs=1, chance_epochs=None)
    search(tmp_path / "run", problem=problem)
    write(1)
    with pytest.raises(UserError, match="trained on other images than data set .* holds now"):
        nb.resume(tmp_path / "run", progress=False)
    nb.resume(tmp_path / "run", accept_changed_data=True, progress=False)
    nb.resume(tmp_path / "run", progress=False)  # what was accepted is known
    write(0)
    with pytest.raises(UserError, match="--accept-changed-data"):
        nb.resume(tmp_path / "run", progress=False)


def test_a_run_does_not_go_on_with_an_edited_evaluator(edit, tmp_path):
    place = edit()
    text = "def evaluate(candidate):\n    return {'val_acc_pct': 50.0 + candidate.choices['width']}\n"
    (place / "edited_blocks.py").write_text("from torch import nn\n\nactivation = nn.ReLU\n\n" + text)
    import edited_blocks

    def run():
        return search(tmp_path / "run", problem=None, evaluate=edited_blocks.evaluate)

    run()
    (place / "edited_blocks.py").write_text("from torch import nn\n\nactivation = nn.ReLU\n\n" + text.replace("5", "4"))
    with pytest.raises(UserError, match=r"edited_blocks .* was edited"):
        run()


def test_a_command_takes_the_option(edit, stored, nasbench):
    edit("Tanh")
    words = ["benchmark", stored, "--seconds", "0.05", "--backend", "eager"]
    code, _, err = nasbench(*words)
    assert (code, "edited_blocks" in err) == (2, True)
    edit("Tanh")
    code, out, err = nasbench(*words, "--accept-changed-code", "--json")
    assert code == 0, err
    assert json.loads(out)
    edit("Tanh")
    assert nasbench(*words)[0] == 2  # it was accepted for one command
