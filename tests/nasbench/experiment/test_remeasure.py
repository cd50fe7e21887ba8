"""The front is measured when the search is over, and the measurement decides."""

import json

import pytest
from tests_support import begin

from nasbench.evaluators.trial import Evaluated
from nasbench.experiment.remeasure import remeasure, wanted
from nasbench.report import build_report
from nasbench.search.select import choose_survivors

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
    assert wanted(study, 2, measured) == measured.keys(), "a member of the front was not measured"
    report = build_report(run.folder)
    assert set(report["front"]) <= measured.keys()
    told = {each["id"]: each for each in report["candidates"]}
    assert told[0]["metrics"]["latency_ms"] == 1e-9, "what the controller was told stays"
    assert told[0]["measured_latency_ms"]["median"] == measured[0]["median"]
    stored = run.folder.remeasured.read_text()
    assert remeasured(run, lambda done, total: pytest.fail("measured again")) == measured
    assert {int(number): each for number, each in json.loads(stored).items()} == measured


def test_who_breaks_a_limit_when_measured_does_not_survive(searched):
    run = searched([(90.0, 1e-9), (80.0, 1e-9), (70.0, 1e-9)], limit=1e-6)
    assert [each.id for each in choose_survivors(run.study, 2)] == [0, 1]
    measured = remeasured(run)
    assert measured.keys() == {0, 1, 2}, "each of them seemed to be the next best"
    assert choose_survivors(run.study, 2, measured) == []
