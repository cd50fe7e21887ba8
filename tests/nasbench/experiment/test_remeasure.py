"""The front is measured when the search is over, and the measurement decides."""

import dataclasses
import json

import pytest
from busy_device import BusyDevice
from tests_support import begin

from nasbench.devices.measure import ALL_CALLS, BESIDE, QUIETEST
from nasbench.evaluators.trial import Evaluated
from nasbench.experiment.build import prepare
from nasbench.experiment.remeasure import remeasure, to_be_measured
from nasbench.experiment.run import run_search
from nasbench.experiment.stored import start_run
from nasbench.report import build_report
from nasbench.search.callbacks import Callback
from nasbench.search.select import choose_survivors
from nasbench.storage.run_folder import RunFolder

OBJECTIVES = [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "latency_ms", "goal": "min"}]


@pytest.fixture
def searched(tmp_path, small):
    """A study whose predictions are wrong: (accuracy, predicted latency) of each candidate."""

    def make(points, limit=None):
        objectives = [OBJECTIVES[0], OBJECTIVES[1] | {"limit": limit}]
        experiment = small(
            objectives=objectives, reward={"name": "scalar"}, survivors=2, search={"candidates": len(points)}
        )
        run = begin(tmp_path / "run", experiment)
        study = run.study
        for accuracy, latency in points:
            trial = study.next_trial()
            metrics = {"val_acc_pct": accuracy, "latency_ms": latency, "throughput_per_s": 1000 / latency}
            study.finish(trial.number, Evaluated("done", metrics, None, 1.0))
        return run

    return make


def remeasured(run, on_progress=lambda done, total: None):
    return remeasure(run.study, run.evaluator, run.prepared, run.folder, on_progress)


def test_a_front_of_predictions_gives_way_to_a_front_of_measurements(searched):
    # By the predictions the first dominates all others, though by a latency that no network has.
    run = searched([(90.0, 1e-9), (80.0, 1.0), (70.0, 1.0), (60.0, 1.0), (50.0, 1.0)])
    study = run.study
    assert study.front == [0]
    heard = []
    measured = remeasured(run, lambda done, total: heard.append((done, total)))
    assert {0, 1} <= measured.keys() and measured[0]["median"] > 1e-3
    assert heard[0] == (1, 2) and heard[-1][0] == heard[-1][1] == len(measured)
    assert to_be_measured(study, 2, measured) == measured.keys(), "a member of the front was not measured"
    report = build_report(run.folder)
    assert set(report["front"]) <= measured.keys()
    candidates = {candidate["id"]: candidate for candidate in report["candidates"]}
    assert candidates[0]["metrics"]["latency_ms"] == 1e-9, "what the controller was told stays"
    assert candidates[0]["measured_latency_ms"]["median"] == measured[0]["median"]
    stored = run.folder.remeasured.read_text()
    assert remeasured(run, lambda done, total: pytest.fail("measured again")) == measured
    assert {int(number): latency for number, latency in json.loads(stored).items()} == measured


def test_who_breaks_a_limit_when_measured_does_not_survive(searched):
    run = searched([(90.0, 1e-9), (80.0, 1e-9), (70.0, 1e-9)], limit=1e-6)
    assert [candidate.id for candidate in choose_survivors(run.study, 2)] == [0, 1]
    measured = remeasured(run)
    assert measured.keys() == {0, 1, 2}, "each of them seemed to be the next best"
    assert choose_survivors(run.study, 2, measured) == []


LIMIT_MS = 1.0
LIMITED = {
    "objectives": [OBJECTIVES[0], OBJECTIVES[1] | {"limit": LIMIT_MS}],
    "reward": {"name": "scalar"},
    "controller": {"name": "random"},
    "executor": {"name": "inline"},
    "device": {"samples": 10},
    "search": {"candidates": 8},
    "survivors": 2,
}


class BusyAfterwards(Callback):
    """Other work begins on the machine when the search has ended; keeps the study."""

    def __init__(self, machine):
        self.machine = machine

    def begin(self, study, experiment):
        self.study = study

    def phase(self, name, total):
        self.machine.busy = self.machine.busy or name == "measure the front"


def test_who_was_within_a_limit_is_within_it_whatever_the_machine_does_later(small, tmp_path):
    device, folder = BusyDevice(), RunFolder(tmp_path / "run")
    prepared = dataclasses.replace(prepare(small(**LIMITED)), device=device)
    start_run(folder, prepared.experiment, tmp_path, "test")
    watch = BusyAfterwards(device.machine_state)
    report = run_search(prepared, folder, watch)
    allowed = {candidate["id"] for candidate in report["candidates"] if candidate["status"] == "done"}
    remeasured_ms = {
        candidate["id"]: candidate["measured_latency_ms"]
        for candidate in report["candidates"]
        if candidate["measured_latency_ms"]
    }
    assert len(report["survivors"]) == 2 and remeasured_ms.keys() <= allowed
    for number, latency in remeasured_ms.items():
        arch = watch.study.record.candidates[number].arch
        known_ms = prepared.evaluator(folder, None).artefact(number, arch, 0).latency_ms
        assert latency["median"] == pytest.approx(known_ms) and latency["median"] <= LIMIT_MS
        assert latency["low"] <= latency["median"] <= latency["high"] and latency["estimator"] == BESIDE
    for survivor in report["survivors"]:
        latency = survivor["stages"][0]["metrics"]["latency_ms"]
        assert latency["median"] == pytest.approx(remeasured_ms[survivor["candidate"]]["median"])
        assert latency["estimator"] == survivor["baseline"]["latency_ms"]["estimator"] == BESIDE
    assert report["latency"] == {"search": QUIETEST, "front": BESIDE, "stages": BESIDE}
    # By the median of all calls none of them would be within the limit on this machine now.
    plain = remeasure(watch.study, prepared.evaluator(folder, None), prepared, RunFolder(tmp_path), lambda *at: None)
    assert {latency["estimator"] for latency in plain.values()} == {ALL_CALLS}
    assert choose_survivors(watch.study, 2, plain) == []


@pytest.mark.parametrize(("low", "survives"), [(0.9, True), (1.05, False), (None, False)])
def test_a_limit_within_the_interval_of_a_measurement_is_not_broken(searched, low, survives):
    run = searched([(90.0, 0.95)], limit=1.0)
    measured = {0: {"median": 1.1, "low": low, "high": 1.3, "batch": 1}}
    assert [candidate.id for candidate in choose_survivors(run.study, 1, measured)] == [0] * survives
