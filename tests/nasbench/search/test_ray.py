"""The Ray Tune executor, with real workers."""

import os
import signal

import pytest
from tests_support import begin

from controllers import SearchFinished
from nasbench.search.executors.cluster import PATIENCE
from nasbench_registry import UserError

pytestmark = pytest.mark.slow


def evaluate(candidate):
    """Runs in a worker: one candidate raises, one diverges, one kills its process always and one the first time."""
    trial = candidate.trial
    if trial.number == 2 or (trial.number == 5 and trial.attempt == 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if trial.number == 3:
        raise RuntimeError("this design does not work")
    if trial.number == 4:
        return {"val_acc_pct": float("nan"), "macs": 1.0}
    return {"val_acc_pct": float(sum(trial.arch.picks)), "macs": 1.0 + trial.arch.picks[0], "pid": float(os.getpid())}


def test_failures_of_every_kind_are_recorded_and_the_search_goes_on(tmp_path, small):
    experiment = small(executor={"name": "ray", "workers": 2, "cpus": 1}, search={"candidates": 8, "max_failures": 5})
    run = begin(tmp_path / "run", experiment)
    study = run.study
    heard = []
    retried = []
    study.on_retry = lambda number, evaluated: retried.append((number, evaluated.status))

    def hear(candidate):
        heard.append(candidate)
        if len(heard) == 11:
            raise UserError("another machine took the run over.")

    with pytest.raises(UserError, match="^another machine took the run over.$"):  # not Tune's error, which wraps it
        run.evaluate_all(evaluate, hear)
    with pytest.raises(SearchFinished, match="complete"):
        study.next_trial()
    assert (study.count("done"), study.count("running")) == (8, 0)
    assert study.failures == {"diverged": 1, "crashed": 1, "failed": 1}
    assert sorted(retried) == [(2, "crashed"), (2, "crashed"), (5, "crashed")]
    assert [len(study.candidates[number].attempts) for number in (1, 2, 5)] == [0, 2, 1]
    errors = {candidate.id: candidate.error for candidate in study.candidates if candidate.error}
    assert errors[2].startswith("WorkerDied")
    assert errors[3] == "RuntimeError: this design does not work"
    assert errors[4] == "Diverged: val_acc_pct is not a finite number"
    assert sorted(candidate.id for candidate in heard) == list(range(11))
    workers = {candidate.metrics["pid"] for candidate in study.candidates if candidate.status == "done"}
    assert len(workers) >= 2, "candidates ran in one process"
    assert os.getpid() not in workers


def by_epochs(candidate):
    """Reports after each of nine epochs, better for some candidates than for others, so that a scheduler stops some."""
    metrics = {}
    for epoch in range(1, 10):
        quality = 1.0 + sum(candidate.trial.arch.picks) % 7
        metrics = {"val_acc_pct": epoch * quality, "macs": 1.0, "epochs": float(epoch)}
        candidate.report(epoch, metrics)
    return metrics


@pytest.mark.parametrize("patience_s", [None, "0"])
def test_a_candidate_that_tune_gives_up_in_silence_is_evaluated_again(tmp_path, small, monkeypatch, patience_s):
    """Tune lets the next candidate take over the process of one that was stopped, and waits for it; or no moment."""
    if patience_s is not None:
        monkeypatch.setenv(PATIENCE, patience_s)
    experiment = small(
        executor={"name": "ray", "workers": 2, "cpus": 1},
        search={"candidates": 12, "max_failures": 50},
        scheduler="asha",
        training={"epochs": 9},
    )
    run = begin(tmp_path / "run", experiment)
    study, retried = run.study, []
    study.on_retry = lambda number, evaluated: retried.append(evaluated.error)
    run.evaluate_all(by_epochs, lambda candidate: None)
    assert study.count("running") == 0 and study.count("done") + study.count("stopped") == 12
    assert study.count("stopped") > 0
    lost = "WorkerDied: RuntimeError: the process of the candidate before it was still busy"
    assert set(retried) == (set() if patience_s is None else {lost})
