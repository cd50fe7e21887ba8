"""The cache that runs share: what one has trained, no other trains."""

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import save_file
from safetensors.torch import load_file
from tests_support import experiment_of
from torch import nn

from benchmarks.chaos import epochs_log
from nasbench.evaluators.cache import Cache
from nasbench.evaluators.trial import Trial
from nasbench.storage.checkpoints import Checkpoints
from search_spaces import Architecture


@pytest.fixture
def run(nasbench, user_folder):
    """Search with a cache: the report of the run."""

    def search(name, *words, **changes):
        experiment = experiment_of(
            space="my_space:Tiny",
            controller="random",
            search={"candidates": 2},
            cache=str(user_folder / "cache"),
            **changes,
        )
        (user_folder / "mine.yaml").write_text(yaml.safe_dump(experiment))
        sys.modules.pop("my_space", None)  # as in a process of its own
        code, out, err = nasbench("search", user_folder / "mine.yaml", "--run", name, "--json", *words)
        assert code == 0, err
        return json.loads(out)

    return search


def test_a_second_run_trains_nothing_that_the_first_one_trained(run, nasbench):
    first = run("first")
    assert len(epochs_log(Path("first"))) == 2
    assert not any(candidate["cached"] for candidate in first["candidates"])
    # Another search of the same networks: other objectives and another executor change nothing in training.
    changes = {"objectives": [{"metric": "val_acc_pct", "goal": "max"}], "reward": {"name": "scalar"}, "survivors": 1}
    second = run("second", **changes)
    assert epochs_log(Path("second")) == []
    assert second["compute"]["training_seconds"] == 0
    for trained, reused in zip(first["candidates"], second["candidates"], strict=True):
        assert (reused["cached"], reused["status"], reused["architecture"]) == (True, "done", trained["architecture"])
        assert reused["metrics"] == trained["metrics"]
        weights = [load_file(f"{name}/checkpoints/{trained['id']:05d}.safetensors") for name in ("first", "second")]
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
    assert not any(candidate["cached"] for candidate in second["candidates"])
    assert epochs_log(Path("second"))


def test_an_edited_space_is_another_one(run, user_folder):
    run("first")
    file = user_folder / "my_space.py"
    file.write_text(file.read_text().replace("nn.ReLU()", "nn.Hardswish()"))
    assert not any(candidate["cached"] for candidate in run("second")["candidates"])


def test_what_a_space_imports_makes_it_another_one(run, user_folder):
    space = user_folder / "my_space.py"
    space.write_text("from my_blocks import Activation\n" + space.read_text().replace("nn.ReLU()", "Activation()"))
    (user_folder / "my_blocks.py").write_text("from torch.nn import ReLU as Activation\n")
    run("first")
    sys.modules.pop("my_blocks", None)
    (user_folder / "my_blocks.py").write_text("from torch.nn import Tanh as Activation\n")
    assert not any(candidate["cached"] for candidate in run("second")["candidates"])
    sys.modules.pop("my_blocks", None)


def test_other_images_under_the_same_name_are_trained(run, user_folder):
    def write(seed):
        images = np.random.default_rng(seed).integers(0, 255, (200, 1, 8, 8)).astype(np.uint8)
        save_file({"images": images, "labels": np.arange(200) % 2}, user_folder / "d.safetensors")

    data = {"name": "arrays", "path": str(user_folder / "d.safetensors")}
    training = {"epochs": 1, "chance_epochs": None}
    cached = []
    for name, seed in (("first", 0), ("same", 0), ("other", 1)):
        write(seed)
        cached.append([candidate["cached"] for candidate in run(name, data=data, training=training)["candidates"]])
    assert cached == [[False, False], [True, True], [False, False]]


class TestFiles:
    """The files of the cache by themselves."""

    @pytest.fixture
    def cache(self):
        with tempfile.TemporaryDirectory() as name:
            Path(name).chmod(0o755)
            yield Cache(Path(name), {"data": "of this test"})

    trial = Trial(3, Architecture("tiny", (0, 1)), None, 7)
    model = nn.Linear(2, 2)

    def test_whatever_identity_it_has_decides(self, cache):
        cache.store(self.trial, {"val_acc_pct": 50.0}, self.model)
        assert cache.find(self.trial, None) == {"val_acc_pct": 50.0}
        others = [
            (cache.identity | {"data": "other"}, self.trial),
            (cache.identity | {"versions": {"torch": "1.0"}}, self.trial),
            (cache.identity, dataclasses.replace(self.trial, seed=8)),
            (cache.identity, dataclasses.replace(self.trial, arch=Architecture("tiny", (1, 0)))),
        ]
        for identity, trial in others:
            assert Cache(cache.folder, identity).find(trial, None) is None

    @pytest.mark.parametrize(
        "damage",
        [lambda file: file.unlink(), lambda file: file.write_bytes(b""), lambda file: file.write_bytes(b"x" * 99)],
        ids=["missing", "empty", "damaged"],
    )
    def test_metrics_without_weights_are_none_where_weights_are_needed(self, damage, cache, tmp_path):
        cache.store(self.trial, {"val_acc_pct": 50.0}, self.model)
        (file,) = cache.folder.rglob("*.safetensors")
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        assert cache.find(self.trial, checkpoints) is not None
        assert checkpoints.load_weights(self.trial).keys() == self.model.state_dict().keys()
        damage(file)
        assert cache.find(self.trial, checkpoints) is None
        assert cache.find(self.trial, None) == {"val_acc_pct": 50.0}

    @pytest.mark.only_where(os.geteuid() == 0)
    def test_another_user_of_a_team_gets_metrics_with_weights(self, cache):
        cache.store(self.trial, {"val_acc_pct": 50.0}, self.model)
        with tempfile.TemporaryDirectory() as name:
            Path(name).chmod(0o777)
            checkpoints = Checkpoints(Path(name) / "checkpoints")
            os.seteuid(65534)
            try:
                assert cache.find(self.trial, checkpoints) == {"val_acc_pct": 50.0}
                assert checkpoints.load_weights(self.trial) is not None
                another_seed = dataclasses.replace(self.trial, seed=8)
                with pytest.warns(UserWarning, match="cannot be written"):
                    cache.store(another_seed, {"val_acc_pct": 60.0}, self.model)  # and the candidate is as good as ever
            finally:
                os.seteuid(0)
