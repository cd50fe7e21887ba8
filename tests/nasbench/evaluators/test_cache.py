"""The cache that runs share: what one has trained, no other trains."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests_support import experiment_of

from benchmarks.chaos import epochs_log


@pytest.fixture
def run(nasbench, user_folder):
    """Search with a cache: the report of the run."""

    def search(name, *words, **changes):
        asked = experiment_of(
            space="my_space:Tiny",
            controller="random",
            search={"candidates": 2},
            cache=str(user_folder / "cache"),
            **changes,
        )
        (user_folder / "mine.yaml").write_text(yaml.safe_dump(asked))
        sys.modules.pop("my_space", None)  # as in a process of its own
        code, out, err = nasbench("search", user_folder / "mine.yaml", "--run", name, "--json", *words)
        assert code == 0, err
        return json.loads(out)

    return search


def test_a_second_run_trains_nothing_that_the_first_one_trained(run, nasbench):
    first = run("first")
    assert len(epochs_log(Path("first"))) == 2
    assert not any(each["cached"] for each in first["candidates"])
    # Another search of the same networks: other objectives and another executor change nothing in training.
    changes = {"objectives": [{"metric": "val_acc_pct", "goal": "max"}], "reward": {"name": "scalar"}, "survivors": 1}
    second = run("second", **changes)
    assert epochs_log(Path("second")) == []
    assert second["compute"]["training_seconds"] == 0
    for one, other in zip(first["candidates"], second["candidates"], strict=True):
        assert (other["cached"], other["status"], other["architecture"]) == (True, "done", one["architecture"])
        assert other["metrics"] == one["metrics"]
        weights = [load_file(f"{name}/checkpoints/{one['id']:05d}.safetensors") for name in ("first", "second")]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    best = second["survivors"][0]
    searched = best["stages"][0]["metrics"]
    assert searched["val_acc_pct"] == second["candidates"][best["candidate"]]["metrics"]["val_acc_pct"]
    assert json.loads(nasbench("status", "second", "--json")[1])["cached"] == 2


@pytest.mark.parametrize(
    "words",
    [("-o", "training.learning_rate=0.001"), ("-o", "training.epochs=2"), ("--seed", "1")],
    ids=" ".join,
)
def test_whatever_changes_training_is_trained(run, words):
    run("first")
    second = run("second", *words)
    assert not any(each["cached"] for each in second["candidates"])
    assert epochs_log(Path("second"))


def test_an_edited_space_is_another_one(run, user_folder):
    run("first")
    file = user_folder / "my_space.py"
    file.write_text(file.read_text().replace("nn.ReLU()", "nn.Hardswish()"))
    assert not any(each["cached"] for each in run("second")["candidates"])
