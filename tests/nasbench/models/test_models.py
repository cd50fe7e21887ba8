"""Models on disk: what is saved is what is loaded, in another process too, and nothing is pickled."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.costs.cost import cost
from nasbench.models import Origin, load_compiled, load_model, read_description, save_model
from nasbench.models.build import SpaceBuild
from nasbench.models.workbench import Workbench
from nasbench.problems.registry import image_classification
from nasbench.training.config import TrainingConfig
from nasbench_compression import Context, Recipe, Step, get_backend
from nasbench_compression.quantization.modules import is_quantized
from nasbench_registry import UserError
from search_spaces import Architecture, Task, get_space
from search_spaces.fresh_model import fresh_model

SPACES = {
    "mobile": (
        {"widths": [16, 32], "layers": 1},
        "convolution_k3_w1.0/inverted_residual_k3_w1.0",
    ),
    "nasbench201": (
        {"channels": 8, "cells": 1},
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|",
    ),
}
RECIPES = {
    "searched": [],
    "pruned": [{"prune": {"ratio": 0.4}}],
    "distilled": [{"distill": {"epochs": 1}}],
    "decomposed": [{"decompose": {"ratio": 0.7}}],
    "sparsified": [{"sparsify": {"sparsity": 0.8, "epochs": 1}}],
    "quantized": [{"quantize": {}}],
    "trained in int8": [{"quantize": {"method": "qat"}}],
    "dynamic": [{"quantize": {"method": "dynamic"}}],
    "int4": [{"quantize": {"precision": "int4", "symmetric": False}}],
    "bf16": [{"quantize": {"precision": "bf16"}}],
    "mixed": [{"quantize": {"precision": "mixed", "max_acc_drop_pct": 1.0}}],
    "all": [{"prune": {"ratio": 0.3, "epochs": 1}}, {"decompose": {"ratio": 0.8}}, {"quantize": {}}],
}
ORIGIN = Origin({"name": "digits"}, {"epochs": 1}, {"mean": [0.3], "std": [0.4]}, {"val_acc_pct": 90.0})


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench(image_classification("digits", training=TrainingConfig(epochs=1, learning_rate=0.01)), seed=0)


@dataclasses.dataclass
class Original:
    """A model that went through a recipe, and all that `save_model` wants to know."""

    model: nn.Module
    space: str
    space_options: dict
    arch: Architecture
    task: Task
    steps: list

    def save(self, folder: Path, model=None, origin: Origin | None = ORIGIN) -> Path:
        return save_model(
            folder,
            model or self.model,
            build=SpaceBuild(self.space, self.space_options, self.arch),
            task=self.task,
            steps=self.steps,
            origin=origin,
        )

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.model.eval()(images)


@pytest.fixture(scope="module")
def make(bench):
    trained: dict[str, nn.Module] = {}
    originals: dict[tuple[str, str], Original] = {}

    def get(name: str, stage: str) -> Original:
        options, text = SPACES[name]
        space = get_space(name, **options)
        arch, task = space.parse(text), bench.problem.data.task
        if name not in trained:
            trained[name] = fresh_model(space, arch, task, 0)
            bench.finetune(trained[name], epochs=1)
        if (name, stage) not in originals:
            model, steps = trained[name], []
            for result in Recipe.parse(RECIPES[stage]).apply(model, bench.context(model)):
                model = result.model
                steps.append((result.step, result.note))
            originals[name, stage] = Original(model, name, options, arch, task, steps)
        return originals[name, stage]

    return get


@pytest.fixture(scope="module")
def images(bench) -> torch.Tensor:
    return bench.problem.data.val.examples[:40]


@pytest.mark.parametrize("stage", RECIPES)
@pytest.mark.parametrize("name", SPACES)
def test_round_trip(name, stage, make, images, tmp_path) -> None:
    original = make(name, stage)
    file = original.save(tmp_path / "deep" / "folder")
    assert file == tmp_path / "deep" / "folder" / "model.safetensors"
    stored = load_model(file.parent)
    torch.testing.assert_close(stored.model(images), original.logits(images), atol=1e-6, rtol=0)
    assert not any(module.training for module in stored.model.modules())
    assert stored.build.make_space().name == name
    assert stored.build.options == original.space_options
    assert (stored.build.arch, stored.task) == (original.arch, original.task)
    assert [step for step, _ in stored.steps] == [step for step, _ in original.steps]
    assert stored.origin == ORIGIN
    assert is_quantized(stored.model) == is_quantized(original.model)
    assert is_quantized(stored.model) or stage not in ("quantized", "trained in int8", "dynamic", "all")

    # What was loaded can be saved again.
    dataclasses.replace(original, model=stored.model, steps=list(stored.steps)).save(tmp_path / "again")
    assert read_description(tmp_path / "again") == read_description(file.parent)
    torch.testing.assert_close(load_model(tmp_path / "again").model(images), original.logits(images), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", SPACES)
def test_nothing_is_pickled(name, make, tmp_path) -> None:
    original = make(name, "all")
    original.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    data = (tmp_path / "model.safetensors").read_bytes()
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert set(head) - {"__metadata__"} == set(original.model.state_dict())
    description = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert description["architecture"] == {"text": SPACES[name][1], "picks": list(original.arch.picks)}
    assert [step["name"] for step in description["steps"]] == ["prune", "decompose", "quantize"]


def test_the_steps_make_the_stored_model_smaller(make, tmp_path) -> None:
    sizes = {}
    for stage in ("searched", "pruned", "quantized"):
        sizes[stage] = make("mobile", stage).save(tmp_path / stage).stat().st_size
    assert sizes["pruned"] < sizes["searched"]
    assert sizes["quantized"] < sizes["searched"] / 2


def test_a_loaded_model_can_be_compressed_further(make, bench, images, tmp_path) -> None:
    original = make("mobile", "pruned")
    original.save(tmp_path / "pruned")
    stored = load_model(tmp_path / "pruned")
    (result,) = Recipe.parse([{"quantize": {}}]).apply(stored.model, bench.context())
    further = dataclasses.replace(original, model=result.model, steps=[*stored.steps, (result.step, result.note)])
    further.save(tmp_path / "further")
    again = load_model(tmp_path / "further").model
    torch.testing.assert_close(again(images), further.logits(images), atol=1e-6, rtol=0)
    assert cost(stored.model, bench.problem.data.task).params == cost(original.model, bench.problem.data.task).params


@pytest.mark.parametrize("name", SPACES)
def test_another_process_computes_the_same(name, make, images, tmp_path) -> None:
    original = make(name, "all")
    original.save(tmp_path / "model")
    np.save(tmp_path / "images.npy", images.numpy())
    code = """
import sys
from pathlib import Path
import numpy as np, torch
from nasbench.models import load_model
folder = Path(sys.argv[1])
with torch.no_grad():
    logits = load_model(folder / "model").model(torch.from_numpy(np.load(folder / "images.npy")))
np.save(folder / "logits.npy", logits.numpy())
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    logits = torch.from_numpy(np.load(tmp_path / "logits.npy"))
    torch.testing.assert_close(logits, original.logits(images), atol=1e-6, rtol=0)


@pytest.mark.parametrize("stage", ["searched", "all"])
def test_compiled_round_trip(stage, make, bench, images, tmp_path) -> None:
    backend = get_backend("onnxruntime")
    if backend.why_unavailable():
        pytest.skip(backend.why_unavailable())
    original = make("mobile", stage)
    step = Recipe.parse([{"compile": {"backend": "onnxruntime"}}]).steps[0]
    compiled, note = step.apply(original.model, bench.context())
    with_step = dataclasses.replace(original, steps=[*original.steps, (step, note)])
    file = with_step.save(tmp_path, compiled)
    beside = ["README.md", "SHA256SUMS", "model.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, *beside])
    loaded = load_compiled(tmp_path)
    np.testing.assert_allclose(loaded(images.numpy()), compiled(images.numpy()), atol=1e-6)
    assert loaded.describe() == compiled.describe()
    assert loaded.describe()["precision"] == ("int8" if stage == "all" else "fp32")
    with pytest.raises(UserError, match="compiled by onnxruntime.*folder of a stage before it"):
        load_model(tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halved(Step):
    """A user's own step: half of the logits."""

    name = "halved"
    stage = "halved"
    summary = "halves"
    source = "this test"
    by: float = 2.0

    def apply(self, model: nn.Module, context: Context):
        note = {"by": self.by}
        halved = self.restore(model, note)
        halved.load_state_dict({f"0.{name}": tensor for name, tensor in model.state_dict().items()})
        return halved, note

    def restore(self, model: nn.Module, note: dict) -> nn.Module:
        return nn.Sequential(model, Divide(note["by"]))


class Divide(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x):
        return x / self.by


def test_a_step_of_the_users_own_is_found_again(make, bench, images, tmp_path) -> None:
    original = make("mobile", "searched")
    step = Recipe.parse([{f"{__name__}:Halved": {"by": 4.0}}]).steps[0]
    model, note = step.apply(original.model, bench.context())
    dataclasses.replace(original, model=model, steps=[(step, note)]).save(tmp_path)
    stored = load_model(tmp_path)
    torch.testing.assert_close(stored.model(images), original.logits(images) / 4, atol=1e-6, rtol=0)
    assert stored.steps == ((step, note),)


class TestErrors:
    @pytest.fixture
    def folder(self, make, tmp_path) -> Path:
        make("mobile", "pruned").save(tmp_path / "model")
        return tmp_path / "model"

    def refused(self, folder: Path, load=load_model) -> str:
        with pytest.raises(UserError) as caught:
            load(folder)
        text = str(caught.value)
        assert "\n" not in text
        assert len(text) < 600
        assert str(folder) in text
        return text

    @pytest.mark.parametrize("load", [load_model, load_compiled, read_description])
    def test_no_folder(self, load, folder) -> None:
        assert "no model folder" in self.refused(folder.parent / "missing", load)
        assert "no model folder" in self.refused(folder.parent, load)
        assert "no model folder" in self.refused(folder / "model.json", load)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b'{"format": 1,', "damaged"),
            (b"", "damaged"),
            (b"\xff\xfe\x00", "damaged"),
            (b"[1]", "format None"),
            (b'{"format": 2}', "format 2; this version reads format 1"),
            (b'{"format": 1, "space": {"name": "mobile"}}', "lacks architecture"),
        ],
    )
    def test_description_that_cannot_be_read(self, content, words, folder) -> None:
        (folder / "model.json").write_bytes(content)
        assert words in self.refused(folder)

    def change(self, folder: Path, **changes) -> None:
        about = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(about | changes))

    def test_weights_of_another_architecture(self, folder, make) -> None:
        arch = get_space("mobile", **SPACES["mobile"][0]).parse("ghost_module_k5_w0.5/shuffle_unit_k3_w0.75")
        about = read_description(folder)
        self.change(folder, architecture=about["architecture"] | {"picks": list(arch.picks)}, steps=[])
        assert "does not hold the weights" in self.refused(folder)
        original = make("nasbench201", "searched")
        original.save(folder.parent / "other")
        (folder / "model.safetensors").write_bytes((folder.parent / "other" / "model.safetensors").read_bytes())
        assert "does not hold the weights" in self.refused(folder)

    def test_weights_without_the_steps_that_shaped_them(self, folder) -> None:
        self.change(folder, steps=[])
        assert "does not hold the weights" in self.refused(folder)

    @pytest.mark.parametrize(
        "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])]
    )
    def test_weights_missing_or_cut(self, damage, folder) -> None:
        damage(folder / "model.safetensors")
        assert "does not hold the weights" in self.refused(folder)

    def test_a_space_or_step_that_is_not_known(self, folder) -> None:
        about = read_description(folder)
        self.change(folder, steps=[about["steps"][0] | {"name": "prunes"}])
        with pytest.raises(UserError, match="Did you mean 'prune'"):
            load_model(folder)
        self.change(folder, steps=[], space={"name": "mobil"})
        with pytest.raises(UserError, match="Did you mean 'mobile'"):
            load_model(folder)

    def test_load_compiled_of_weights(self, folder) -> None:
        assert "nasbench export" in self.refused(folder, load_compiled)
