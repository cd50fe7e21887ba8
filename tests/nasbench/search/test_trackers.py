"""Searches are written into MLflow and Weights & Biases, with the real libraries, offline."""

import time

import pytest

import nasbench as nb
from search_spaces import Decision, SearchSpace


class Numbers(SearchSpace):
    name = "numbers"
    decisions = (Decision("a", (1, 2, 3)), Decision("b", (1, 2)))

    def build(self, arch, task):
        raise NotImplementedError


def product(candidate):
    if candidate.choices == {"a": 3, "b": 1}:
        raise ValueError("not this one")
    candidate.report(1, {"value": 0.5})
    return {"value": candidate.choices["a"] * candidate.choices["b"]}


def run(folder, callback, **changes):
    options = {"objectives": {"value": "max"}, "candidates": 6, "folder": folder, "progress": False}
    return nb.search(Numbers(), evaluate=product, callbacks=[callback], **options | changes)


def test_mlflow_has_a_run_for_each_candidate_with_choices_metrics_and_errors(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    result = run(tmp_path / "run", {"name": "mlflow", "tracking_uri": uri})
    assert len(result.candidates) == 6
    client = mlflow.MlflowClient(tracking_uri=uri)
    (experiment,) = [one for one in client.search_experiments() if one.name == "run"]
    runs = client.search_runs([experiment.experiment_id])
    below = {int(one.data.tags["candidate"]): one for one in runs if "candidate" in one.data.tags}
    assert sorted(below) == list(range(6))
    for number, row in result.candidates.iterrows():
        one = below[number]
        assert one.data.params["a"] == str(row["a"])
        assert one.data.tags["status"] == row["status"]
        if row["status"] == "done":
            assert one.data.metrics["value"] == row["value"]
            assert one.info.status == "FINISHED"
        else:
            assert "not this one" in one.data.tags["error"]
            assert one.info.status == "FAILED"
    (search,) = [one for one in runs if "candidate" not in one.data.tags]
    assert search.data.metrics["best_score"] == 6


def test_mlflow_goes_on_where_a_resumed_search_goes_on(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    callback = {"name": "mlflow", "tracking_uri": uri}
    run(tmp_path / "run", callback)
    nb.resume(tmp_path / "run", space=Numbers(), evaluate=product, progress=False)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (experiment,) = [one for one in client.search_experiments() if one.name == "run"]
    assert len(client.search_runs([experiment.experiment_id])) == 7  # the search, and six candidates once each


@pytest.mark.parametrize("tracking_uri", ["file:mlruns", "no-store://here"])
def test_mlflow_says_which_store_it_does_not_take(tmp_path, monkeypatch, tracking_uri):
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(nb.UserError, match=f"MLflow cannot use tracking_uri '{tracking_uri}' .*; give a database"):
        run(tmp_path / "run", {"name": "mlflow", "tracking_uri": tracking_uri})


def test_wandb_offline_writes_a_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(tmp_path / "run", {"name": "wandb", "mode": "offline", "folder": str(tmp_path)})
    (offline,) = (tmp_path / "wandb").glob("offline-run-*")
    (file,) = offline.glob("*.wandb")
    deadline = time.monotonic() + 60  # its service writes a little after finish() returned
    while b"best_score" not in file.read_bytes():
        assert time.monotonic() < deadline, file.read_bytes()
        time.sleep(0.1)
    assert b"choice/a" in file.read_bytes()


def test_a_misspelt_tracker_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(nb.UserError, match="Did you mean 'mlflow'"):
        run(tmp_path / "run", "mlfow")
