"""The catalogue of recipes: each is one, is told of, and runs."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from bounds import check_learned
from typer.testing import CliRunner

from nasbench.cli.app import app
from nasbench.models import Origin, save_model
from nasbench.models.build import SpaceBuild
from nasbench.models.workbench import Workbench
from nasbench.problems.registry import image_classification
from nasbench.training.config import TrainingConfig
from nasbench_compression import CompiledModel, Recipe
from nasbench_compression.macs import count_macs
from nasbench_registry.files import read_yaml
from search_spaces import get_space
from search_spaces.fresh_model import fresh_model

FOLDER = Path(__file__).parents[3] / "experiments/recipes"
RECIPES = {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}
OPTIONS = {"widths": [16, 32], "layers": 2}
TEXT = "convolution_k3_w1.0-inverted_residual_k3_w1.0/inverted_residual_k3_w1.0-inverted_residual_k3_w1.0"
BENCH = Workbench(image_classification("digits", training=TrainingConfig(learning_rate=0.01)), seed=0)


@pytest.fixture(scope="module")
def trained():
    space = get_space("mobile", **OPTIONS)
    model = fresh_model(space, space.parse(TEXT), BENCH.problem.data.task, 0)
    BENCH.finetune(model, epochs=4)
    return model


def test_the_table_tells_of_each() -> None:
    rows = re.findall(
        r"^\| \[([a-z0-9-]+)\]\(\1\.yaml\) \|[^|]*\| ([^|]*) \|", (FOLDER / "README.md").read_text(), re.M
    )
    assert [name for name, _ in rows] and {name for name, _ in rows} == set(RECIPES)
    for name, steps in rows:
        wanted = [step.name for step in Recipe.parse(read_yaml(RECIPES[name])).steps]
        assert re.findall(r"`(\w+)`", steps) == wanted, name


def shortened(name: str) -> Recipe:
    """With two epochs where it has more, and eight for zeros; the latency asked for is a share of the network's."""
    steps = []
    for step in Recipe.parse(read_yaml(RECIPES[name])).steps:
        changes = {"epochs": 8 if step.name == "sparsify" else 2} if getattr(step, "epochs", 0) > 2 else {}
        changes |= {"max_latency_ms": 0.6} if getattr(step, "max_latency_ms", None) else {}
        steps.append(dataclasses.replace(step, **changes))
    return Recipe(tuple(steps))


@pytest.mark.parametrize("name", RECIPES)
def test_each_runs(name, trained) -> None:
    recipe = shortened(name)
    images = BENCH.problem.data.val.examples
    whole = count_macs(trained, images)
    # Multiply-adds in place of time, which noise would move.
    context = dataclasses.replace(BENCH.context(trained), latency_ms=lambda model: count_macs(model, images) / whole)
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    *_, last = recipe.apply(trained, context)
    assert isinstance(last.model, CompiledModel) == (recipe.steps[-1].name == "compile")
    check_learned("accuracy", BENCH.validate(last.model), images=len(images))
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())


@pytest.mark.parametrize("name", ["int8", "sparse-90"])
def test_the_command_runs_it(name, trained, tmp_path) -> None:
    save_model(
        tmp_path / "model",
        trained,
        build=SpaceBuild("mobile", OPTIONS, get_space("mobile", **OPTIONS).parse(TEXT)),
        task=BENCH.problem.data.task,
        origin=Origin({"name": "digits"}, {"epochs": 1, "learning_rate": 0.01}),
    )
    file = tmp_path / "short.yaml"
    file.write_text(yaml.safe_dump(shortened(name).to_json()))
    done = CliRunner().invoke(
        app, ["compress", str(tmp_path / "model"), str(file), "--out", str(tmp_path / "out"), "--json"]
    )
    assert done.exit_code == 0, done.output
    stages = json.loads(done.stdout)["stages"]
    assert [stage["name"] for stage in stages] == {
        "int8": ["searched", "quantized", "compiled"],
        "sparse-90": ["searched", "sparsified"],
    }[name]
    assert stages[0]["metrics"]["size_bytes"] > 0
