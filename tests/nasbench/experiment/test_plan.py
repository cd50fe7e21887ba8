"""The dry run: what a search will take, compared with one that was run."""

import json

import numpy as np
import pytest
import torch
import yaml
from bounds import check_below
from tests_support import RECIPE, experiment_of

from nasbench.experiment.build import prepare
from nasbench.experiment.loading import parse_experiment
from nasbench.experiment.pilots import run_pilots
from nasbench.experiment.plan import estimate

LATENCY = {
    "objectives": [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "latency_ms", "goal": "min"}],
    "reward": {"name": "scalar"},
}


@pytest.fixture(scope="module")
def pilots():
    """What two real pilots took, once: two runs of them never take the same time."""
    experiment = parse_experiment(experiment_of(**LATENCY))
    prepared = prepare(experiment)
    return run_pilots(experiment, prepared.space, prepared.required, torch.device("cpu"))


@pytest.fixture
def estimated(pilots, monkeypatch):
    monkeypatch.setattr("nasbench.experiment.plan.run_pilots", lambda *args: pilots)

    def make(**changes):
        experiment = parse_experiment(experiment_of(**changes))
        return estimate(experiment, prepare(experiment))

    return make


def test_the_estimate_is_near_a_search_that_was_run(nasbench, tmp_path):
    (tmp_path / "small.yaml").write_text(
        yaml.safe_dump(experiment_of(search={"candidates": 4}, training={"epochs": 6}))
    )
    code, out, err = nasbench("search", "small.yaml", "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(out)["estimate"]
    code, out, err = nasbench("search", "small.yaml", "--run", "run", "--json")
    assert code == 0, err
    seconds = sum(candidate["seconds"] for candidate in json.loads(out)["candidates"])
    ratio = 3600 * plan["search_hours"] / seconds
    check_below("log of how far it is off", abs(np.log(ratio)), mean=0.2153, sd=0.18, most=np.log(6))
    kept = sum(file.stat().st_size for file in (tmp_path / "run/checkpoints").rglob("*.safetensors"))
    # With the state of a network in training beside the weights.
    check_below("log of how far the disk is off", abs(np.log(1e9 * plan["disk_gb"] / kept)), mean=0.4433, sd=0.3)


def test_the_output_is_the_experiment_and_the_estimate_in_comments(nasbench, tmp_path):
    changes = {"objectives": [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "latency_ms", "goal": "min"}]}
    changes |= {"reward": {"name": "scalar"}, "recipe": RECIPE, "survivors": 1, "device": {"runtime": "onnxruntime"}}
    changes |= {"search": {"candidates": 5000, "max_hours": 0.01, "max_disk_gb": 1e-4, "candidate_minutes": 1e-4}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(experiment_of(**changes)))
    code, out, err = nasbench("search", "small.yaml", "--dry-run")
    assert code == 0, err
    assert parse_experiment(yaml.safe_load(out)) == parse_experiment(experiment_of(**changes))
    comments = " ".join(line.removeprefix("# ") for line in out.splitlines() if line.startswith("#"))
    for words in ("calibration", "5,000 candidates x", "compression", "in all", "disk", "latency on onnxruntime"):
        assert words in comments
    assert "2 pilots" in comments and "nothing was kept" in comments
    for limit in ("search.max_hours=0.01", "search.max_disk_gb=0.0001", "search.candidate_minutes=0.0001"):
        assert f"warning: {limit}" in comments
    assert "training two pilots" in err
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_hours_and_disk_are_sums_of_their_parts(estimated):
    quantized = [{"prune": {"ratio": 0.3, "epochs": 2}}, {"quantize": None}]
    plan = estimated(recipe=quantized, survivors=2, checkpoints={"keep": 3, "every": None}, search={"candidates": 10})
    epoch_s = sum(pilot.seconds_per_epoch for pilot in plan.pilots) / len(plan.pilots)
    assert plan.search_hours == pytest.approx(10 * plan.seconds_per_candidate / 3600)
    assert plan.seconds_per_candidate > epoch_s
    assert plan.calibration_hours == 0 and plan.device["runtime"] is None
    assert 2 * 2 * epoch_s / 3600 < plan.compression_hours
    assert plan.total_hours == pytest.approx(plan.search_hours + plan.compression_hours)
    more = estimated(recipe=quantized, survivors=2, checkpoints={"keep": 3, "every": 1}, search={"candidates": 10})
    # 3 kept, 2 survivors in 3 stages; a network in training has 3 times its weights beside.
    assert more.disk_gb == pytest.approx(plan.disk_gb * (3 + 6 + 3) / (3 + 6))
    json.dumps(plan.to_json())


def test_more_epochs_validations_and_measurements_take_longer(estimated):
    few, many = estimated(training={"epochs": 1}), estimated(training={"epochs": 40})
    epoch_s = sum(pilot.seconds_per_epoch for pilot in few.pilots) / len(few.pilots)
    assert many.seconds_per_candidate == pytest.approx(few.seconds_per_candidate + 39 * epoch_s)
    often = estimated(training={"epochs": 40, "validate_every": 1})
    assert often.seconds_per_candidate > many.seconds_per_candidate
    measured = estimated(**LATENCY, device={"latency": "measured"})
    predicted = estimated(**LATENCY, device={"samples": 40})
    assert measured.seconds_per_candidate > predicted.seconds_per_candidate + 0.3
    assert measured.calibration_hours == 0
    assert predicted.calibration_hours > 40 * 0.15 / 3600


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"executor": {"name": "ray", "workers": 500}}, "500 workers with 1 threads each share"),
        ({"executor": {"name": "ray"}, "scheduler": "asha"}, "scheduler asha stops candidates early"),
        ({"controller": {"name": "hyperband"}}, "asks for fewer epochs for most candidates"),
        ({"executor": {"name": "ray"}, "ray": {"address": "10.0.0.1:6379"}}, "not on the cluster at 10.0.0.1:6379"),
        ({"cache": "somewhere"}, "what the cache knows"),
    ],
)
def test_what_the_estimate_cannot_know_is_said(estimated, changes, message):
    assert [text for text in estimated(**changes).warnings if message in text]


def test_a_plain_experiment_has_no_warnings(estimated):
    assert estimated().warnings == ()


def test_pilots_train_a_little_and_leave_everything_as_it_was(small):
    experiment = small(training={"epochs": 1, "learning_rate": 1e9, "optimizer": "sgd"})
    prepared = prepare(experiment)
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first, second = run_pilots(experiment, prepared.space, prepared.required, torch.device("cpu")).pilots
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert first.macs < second.macs
    batches = len(prepared.required.data.train) // experiment.training.batch_size
    for pilot in (first, second):
        assert 3 <= pilot.batches <= batches
        assert pilot.seconds_per_epoch == pytest.approx(batches * pilot.seconds_per_batch)
        assert pilot.trained_seconds > 0
    again = run_pilots(experiment, prepared.space, prepared.required, torch.device("cpu")).pilots
    assert [pilot.architecture for pilot in again] == [first.architecture, second.architecture]
