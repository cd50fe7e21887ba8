"""Searches whose candidates share weights."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from typer.testing import CliRunner

import nasbench as nb
from nasbench.cli.app import app
from nasbench.models.build import SpaceBuild
from nasbench.models.model import Model
from nasbench_registry import UserError
from search_spaces import get_space
from search_spaces.fresh_model import fresh_model

GOALS = {"val_acc_pct": "max", "params": "min"}


@pytest.fixture(scope="module")
def digits():
    return nb.image_classification("digits", epochs=1, batch_size=128)


@pytest.fixture(scope="module")
def model(digits, tmp_path_factory):
    """The folder of a small trained network."""
    space = get_space("nats_size")
    arch = space.architecture([0] * len(space.decisions))
    network = fresh_model(space, arch, digits.task, 0)
    digits.fit(network, epochs=1, seed=0)
    return Model(network, digits.task, build=SpaceBuild("nats_size", {}, arch), problem=digits).save(
        tmp_path_factory.mktemp("models") / "small"
    )


class Killed(nb.Callback):
    """Ends the process of the search after its second candidate."""

    def candidate_done(self, candidate, study):
        if candidate.id == 1:
            raise KeyboardInterrupt


def test_a_search_trains_shared_weights_once_and_says_whether_to_trust_them(digits, tmp_path):
    own = {"name": "supernet", "epochs": 1, "check": 3, "check_epochs": 1, "examples": 100, "after_epochs": 1}
    options = {"evaluate": own, "problem": digits, "objectives": GOALS, "folder": tmp_path / "run", "survivors": 1}
    options["seed"] = 7
    space = nb.get_space("nats_size")
    with pytest.raises(KeyboardInterrupt):
        nb.search(space, **options, candidates=3, progress=False, callbacks=[Killed()])
    trained_at = (tmp_path / "run" / "supernet" / "weights.safetensors").stat().st_mtime_ns
    result = nb.resume(tmp_path / "run", space=space, progress=False)
    assert len(result.candidates) == 3
    assert (tmp_path / "run" / "supernet" / "weights.safetensors").stat().st_mtime_ns == trained_at, "trained once"
    shared = json.loads((tmp_path / "run" / "report.json").read_text())["agreement"]
    assert len(shared["alone"]) == 3 and shared["epochs"] == 1 and shared["sentence"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Shared weights" in page and 'id="agreement"' in page
    stage = tmp_path / "run" / "survivors" / "1" / "searched"
    assert nb.load(stage).predict(digits.examples(2)).shape == (2, 10)
    alike = nb.share(space, digits, seed=7).train(epochs=1, seed=7)
    kept = nb.load_supernet(tmp_path / "run" / "supernet", problem=digits)
    assert all(map(torch.equal, kept.weights.parameters(), alike.weights.parameters())), "the seed is that of the run"


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_candidates_in_blocks_have_the_scores_of_their_networks(digits, tmp_path, workers):
    """Inline, and in the pool of processes in which each reads the weights once."""
    space = nb.get_space("mobile", widths=[8, 16], layers=1, kernels=[3], blocks=["convolution", "depthwise_separable"])
    shared = nb.share(space, digits, calibration_inputs=64)
    shared.train(epochs=1, seed=0)
    result = nb.search(
        space,
        evaluate=shared,
        problem=digits,
        objectives=GOALS,
        folder=tmp_path / "run",
        survivors=0,
        candidates=4,
        progress=False,
        workers=workers,
    )
    assert len(result.candidates) == 4
    for candidate in result.candidates.to_dict("records"):
        expected = shared.score(space.parse(candidate["architecture"]))
        assert candidate["val_acc_pct"] == expected["val_acc_pct"]
        assert candidate["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-4)


def test_candidates_are_evaluated_in_the_precision_of_the_training(digits, tmp_path):
    space = nb.get_space("nats_size")
    problem = nb.image_classification("digits", epochs=1, batch_size=128, precision="bf16")
    shared = nb.share(space, problem, calibration_inputs=64)
    options = {"problem": problem, "objectives": GOALS, "survivors": 0, "candidates": 3, "progress": False}
    result = nb.search(space, evaluate=shared, folder=tmp_path / "run", **options)
    for candidate in result.candidates.to_dict("records"):
        network = shared.network(space.parse(candidate["architecture"])).to(memory_format=torch.channels_last)
        exact = problem.score(network, "val")["val_loss"]
        with torch.autocast("cpu", torch.bfloat16):
            assert candidate["val_loss"] == problem.score(network, "val")["val_loss"] != exact


def test_an_elastic_network_is_searched_from_the_command_line(model, tmp_path):
    run = CliRunner().invoke
    done = run(app, ["elastic", str(model), "--out", str(tmp_path / "net"), "--widths", "0.5,1", "--json"])
    assert done.exit_code == 0, done.output
    elastic = json.loads(done.stdout)
    assert elastic["networks"] > 1 and elastic["smallest"]["macs"] < elastic["largest"]["macs"]
    experiment = tmp_path / "elastic.yaml"
    options = {
        "name": "elastic",
        "space": {"name": "nasbench.supernet.elastic_space:ElasticSpace", "folder": str(tmp_path / "net")},
        "evaluator": {"name": "supernet", "check": 0, "afterwards": "shared"},
        "controller": {"name": "regularized_evolution", "population": 3, "tournament": 2},
        "data": "digits",
        "training": {"epochs": 1, "batch_size": 128},
        "objectives": GOALS,
        "reward": {"name": "weighted_product", "target": {"params": 1e5}, "exponent": -0.1},
        "search": {"candidates": 4},
        "executor": {"name": "inline"},
        "survivors": 1,
        "recipe": [{"quantize": {"precision": "int8"}}],
        "baseline": {"name": "random", "candidates": 3},
    }
    experiment.write_text(yaml.safe_dump(options))
    done = run(app, ["search", str(experiment), "--run", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    stages = tmp_path / "run" / "survivors" / "1"
    about = json.loads((stages / "searched" / "model.json").read_text())
    assert about["steps"][-1]["name"] == "nasbench.supernet.subnetwork:SubnetworkStep", "it needs no supernet"
    assert nb.load(stages / "quantized").network is not None
    shipped = Path(__file__).parents[3] / "experiments/joint-elastic.yaml"
    on_digits = ["-o", "data=digits", "-o", f"space.folder={tmp_path / 'net'}"]
    done = run(app, ["search", str(shipped), "--dry-run", *on_digits, "--json"])
    assert done.exit_code == 0, done.output


def test_recipes_are_searched_together_with_the_networks_inside_one(digits, model, tmp_path):
    elastic = nb.elastic(nb.load(model), digits, widths=(0.5, 1)).train(epochs=1)
    result = nb.search(
        elastic.space,
        evaluate={"name": "supernet", "check": 0},
        problem=digits,
        objectives={"val_acc_pct": "max", "latency_ms": "min"},
        controller="nsga2",
        recipe=[{"quantize": {"precision": {"choice": ["fp16", "int8"]}}}],
        device={"name": "cpu", "runtime": "onnxruntime", "samples": 10},
        candidates=3,
        folder=tmp_path / "joint",
        progress=False,
    )
    assert set(result.candidates["status"]) == {"done"}
    assert (result.candidates["training_seconds"] == 0).all(), "another network costs no more than another recipe"


def test_bad_input_is_refused(digits, model, tmp_path):
    def search(options, **others):
        base = {"problem": digits, "objectives": GOALS, "candidates": 1, "folder": tmp_path / "run", "progress": False}
        nb.search(**({"space": "nats_size", "evaluate": {"name": "supernet", **options}} | base | others))

    with pytest.raises(UserError, match="unknown option of evaluator supernet 'epoch'"):
        search({"epoch": 3})
    with pytest.raises(UserError, match="evaluator.check is 2; a rank correlation needs 3 networks"):
        search({"check": 2})
    with pytest.raises(UserError, match="evaluator.epochs is 0"):
        search({"epochs": 0})
    with pytest.raises(UserError, match="holds no supernet that can be read"):
        search({"folder": str(tmp_path)})
    elastic = nb.elastic(nb.load(model), digits, widths=(0.5, 1))
    with pytest.raises(UserError, match="the supernet was trained for"):
        search({}, problem=nb.image_classification("fashion_mnist", epochs=1), space=elastic.space, evaluate=elastic)
    fewer = dataclasses.replace(digits, data=dataclasses.replace(digits.data, train=digits.data.train.some(500, 0)))
    with pytest.raises(UserError, match="trained on other data than those of this search"):
        search({}, problem=fewer, space=elastic.space, evaluate=elastic)
    with pytest.raises(UserError, match="is one of space 'elastic' with .* one of space 'nats_size'"):
        search({}, evaluate=elastic)
    stored = elastic.save(tmp_path / "stored")
    with pytest.raises(UserError, match="is one of space 'elastic' with .* one of space 'nats_size'"):
        search({"folder": str(stored)})
    with pytest.raises(UserError, match="trained on other data than these"):
        nb.load_supernet(stored, problem=fewer)
    nameless = nb.elastic(nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)), digits)
    common = {"problem": digits, "objectives": GOALS, "folder": tmp_path / "n", "candidates": 1}
    recipe = [{"quantize": {"precision": {"choice": ["fp32", "int8"]}}}]
    for stores in ({"survivors": 1}, {"survivors": 0, "recipe": recipe}):
        with pytest.raises(UserError, match="cannot be saved by itself; give build='module:function'"):
            nb.search(nameless.space, evaluate=nameless, **common, **stores)
