"""Train one architecture from scratch, from a file or from a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from judging import judge
from safetensors.numpy import load_file

from nasbench.data import load_data
from nasbench.experiment.build import prepare
from nasbench.experiment.retrain import retrain
from nasbench.models import load_model


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def same(first, second):
    assert first.keys() == second.keys()
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_a_candidate_of_a_run_gets_the_weights_that_the_search_gave_it(nasbench, write):
    path = write(search={"candidates": 2}, survivors=1, seed=3)
    code, out, err = nasbench("search", path, "--run", "run", "--json")
    assert code == 0, err
    (survivor,) = json.loads(out)["survivors"]
    code, out, err = nasbench("train", "run", survivor["candidate"], "--out", "again", "--seeds", 2, "--json")
    assert code == 0, err
    results = json.loads(out)
    assert results == json.loads(Path("again/trained.json").read_text())
    assert [result["seed"] for result in results["seeds"]] == [3, 4]
    first, second = (weights(result["folder"]) for result in results["seeds"])
    assert same(first, weights("run/survivors/1/searched")) and not same(first, second)
    searched = survivor["stages"][0]["metrics"]
    assert results["seeds"][0]["metrics"]["val_acc_pct"] == searched["val_acc_pct"]
    assert results["seeds"][0]["metrics"]["test_acc_pct"] == searched["test_acc_pct"]
    accuracies = [result["metrics"]["test_acc_pct"] for result in results["seeds"]]
    assert results["mean"]["test_acc_pct"] == pytest.approx(np.mean(accuracies))
    assert results["std"]["test_acc_pct"] == pytest.approx(np.std(accuracies))

    # The same architecture by its notation, for longer: a table on the terminal, and a folder that other commands take.
    code, out, err = nasbench("train", path, results["architecture"], "--out", "longer", "-o", "training.epochs=3")
    assert code == 0 and "longer/seed-3" in "".join(out.split()), err
    stored = load_model(Path("longer/seed-3"))
    assert stored.origin.training["epochs"] == 3 and stored.origin.data == {"name": "digits"}
    digits = load_data("digits")
    assert judge(stored.model, digits.test).accuracy_pct == stored.origin.metrics["test_acc_pct"]
    code, _, err = nasbench("train", "run", 9, "--out", "no")
    assert code == 2 and "has no candidate 9; its 2 candidates count from 0" in " ".join(err.split())


def test_a_candidate_of_a_joint_run_is_its_network(nasbench, write):
    recipe = [{"quantize": {"precision": {"choice": ["fp32", "int8"]}}}, {"compile": {"backend": "onnxruntime"}}]
    changes = {
        "objectives": [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "size_bytes", "goal": "min"}],
        "reward": {"name": "pareto"},
        "controller": {"name": "random"},
        "device": {"runtime": "onnxruntime"},
    }
    path = write(recipe=recipe, search={"candidates": 1}, **changes)
    code, out, err = nasbench("search", path, "--run", "run", "--json")
    assert code == 0, err
    (candidate,) = json.loads(out)["candidates"]
    code, out, err = nasbench("train", "run", 0, "--out", "again", "--json")
    assert code == 0, err
    results = json.loads(out)
    assert results["architecture"] == candidate["network"]
    trained = candidate["metrics"]["trained_val_acc_pct"]
    assert results["seeds"][0]["metrics"]["val_acc_pct"] == pytest.approx(trained)


class Stopped(BaseException):
    """Stands for a kill: nothing may catch it."""


def test_it_goes_on_where_it_was_killed_and_keeps_what_is_finished(small, tmp_path):
    experiment = small(training={"epochs": 4})
    prepared = prepare(experiment)
    space, problem = prepared.space, prepared.required
    arch = space.sample(np.random.default_rng(0))
    calm = retrain(experiment, space, arch, problem, tmp_path / "calm", seed=0)

    def dies(epoch, metrics):
        if epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        retrain(experiment, space, arch, problem, tmp_path / "rough", 0, dies)
    assert not (tmp_path / "rough" / "model.json").exists()
    heard = []
    rough = retrain(experiment, space, arch, problem, tmp_path / "rough", 0, lambda epoch, metrics: heard.append(epoch))
    assert heard[-2:] == [3, 4] and same(weights(calm.folder), weights(rough.folder))
    assert rough.metrics["test_acc_pct"] == calm.metrics["test_acc_pct"]
    assert sorted(file.name for file in Path(rough.folder).iterdir()) == [
        "model.json",
        "model.safetensors",
        "train.json",
    ]
    heard.clear()
    assert (
        retrain(experiment, space, arch, problem, tmp_path / "rough", 0, lambda *progress: heard.append(progress))
        == rough
    )
    assert heard == []


def test_a_folder_with_another_network_is_refused(nasbench, write):
    path = write()
    assert nasbench("train", path, "random:1", "--out", "a")[0] == 0
    for words, changed in (
        (["random:2"], "architecture"),
        (["random:1", "-o", "training.epochs=2"], "training"),
    ):
        code, _, err = nasbench("train", path, *words, "--out", "a")
        assert code == 2 and f"holds a network with another {changed}; give another folder" in " ".join(err.split())


def test_ctrl_c_says_how_to_go_on(nasbench, write, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("nasbench.experiment.retrain.retrain", stop)
    code, _, err = nasbench("train", write(), "random:1", "--out", "a")
    assert code == 1 and "Go on with: nasbench train" in err


def test_a_network_that_diverges_is_told(nasbench, write):
    path = write(training={"epochs": 2, "learning_rate": 1e12})
    code, out, _ = nasbench("train", path, "random:1", "--out", "a", "--json")
    results = json.loads(out)
    assert code == 1 and results["seeds"][0]["status"] == "diverged" and results["mean"] == {}
    assert not Path("a/seed-0/model.json").exists()
