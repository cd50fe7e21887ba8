"""What optuna-dashboard shows of a run: the record, read through its own server."""

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml
from tests_support import begin, experiment_of

from nasbench.evaluators.trial import Evaluated
from nasbench.experiment.stored import change_run, stored_experiment
from nasbench.search.disk_record import SLOW_S
from nasbench.search.record import describe
from nasbench.storage.run_folder import RunFolder

SECONDS = 2 * SLOW_S
"""Seconds that candidates took: of the changes of cheap ones, a person hears in blocks."""


@pytest.fixture
def dashboard():
    """Start optuna-dashboard on a file, as a user does: a function that reads from its JSON API."""
    started = []

    def start(journal):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # wsgiref in this process: gunicorn, if it is there, would leave a second process behind.
        command = [str(Path(sys.executable).with_name("optuna-dashboard")), str(journal), "--server", "wsgiref"]
        log = journal.with_name("dashboard.log")
        with log.open("w") as file:
            process = subprocess.Popen([*command, "--port", str(port)], stdout=file, stderr=file)
        started.append(process)

        def read(path):
            deadline = time.monotonic() + 60
            while True:
                assert process.poll() is None, log.read_text()
                try:
                    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                        return answer.read()
                except URLError as error:
                    if getattr(error, "code", None) is not None or time.monotonic() > deadline:
                        raise AssertionError(f"{path}: {error}\n{log.read_text()}") from error
                    time.sleep(0.05)

        return read, log

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_dashboard_shows_the_record(nasbench, dashboard):
    """A finished search with refused candidates; then one goes on in it, with every state that a trial can have."""
    objectives = [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "macs", "goal": "min", "limit": 60_000}]
    changes = {"objectives": objectives, "training": {"epochs": 2, "validate_every": 1}, "search": {"candidates": 3}}
    Path("small.yaml").write_text(yaml.safe_dump(experiment_of(**changes)))
    code, out, err = nasbench("search", "small.yaml", "--run", "run", "--json")
    assert code == 0, err
    report = json.loads(out)
    folder = RunFolder(Path("run"))
    change_run(folder, ["search.candidates=9"])
    study = begin(folder.path, stored_experiment(folder)).study
    stopped, failed, running, waiting = (study.next_trial() for _ in range(4))
    metrics = {"val_acc_pct": 70.0, "macs": 50_000.0}
    study.finish(stopped.number, Evaluated("stopped", metrics, "stopped by the scheduler", SECONDS, curve={"1": 70.0}))
    for _ in range(2):
        study.finish(failed.number, Evaluated("out_of_memory", {}, "no memory", SECONDS))
        study.next_trial()
    study.report(running.number, 1, 55.0)

    read, log = dashboard(folder.journal)
    (summary,) = json.loads(read("/api/studies"))["study_summaries"]
    assert (summary["study_name"], summary["directions"]) == ("small", ["maximize", "minimize"])
    page = f"/api/studies/{summary['study_id']}"
    details = json.loads(read(page))
    assert details["objective_names"] == ["val_acc_pct", "macs"]
    assert {trial["number"] for trial in details["best_trials"]} == set(report["front"])
    trials, finished = details["trials"], len(report["candidates"])
    compare(trials[:finished], report["candidates"])
    compare(trials, [describe(candidate) for candidate in study.candidates])
    assert {candidate["status"] for candidate in report["candidates"]} == {"done", "infeasible"}
    states = [trials[trial.number]["state"] for trial in (stopped, failed, running, waiting)]
    assert states == ["Pruned", "Fail", "Running", "Running"]
    assert [attempt["status"] for attempt in json.loads(attributes(trials[failed.number])["attempts"])] == [
        "out_of_memory"
    ]
    assert [point["step"] for point in trials[running.number]["intermediate_values"]] == [1]

    # What the page draws by itself: which decisions matter, the table as a file, and the page.
    importances = json.loads(read(f"{page}/param_importances"))["param_importances"]
    assert len(importances) == 2
    assert len(read(f"/csv/{summary['study_id']}").splitlines()) == 1 + len(trials)
    assert b"<html" in read("/dashboard")
    text = re.sub(r".*UserWarning: Some regimes for parameter .* have less than 2 trials.*", "", log.read_text())
    assert "Warning" not in text and "Traceback" not in text


STATES = {"done": "Complete", "stopped": "Pruned", "running": "Running"}


def attributes(trial):
    return {attribute["key"]: attribute["value"] for attribute in trial["user_attrs"]}


def compare(trials, candidates):
    """Every trial is the candidate of its number: state, values, metrics, curve."""
    assert [trial["number"] for trial in trials] == list(range(len(candidates)))
    for trial, candidate in zip(trials, candidates, strict=True):
        metrics, shown = candidate["metrics"], attributes(trial)
        assert trial["state"] == STATES.get(candidate["status"], "Fail")
        done = candidate["status"] == "done"
        assert trial.get("values") == ([metrics["val_acc_pct"], metrics["macs"]] if done else None)
        assert shown["architecture"] == candidate["architecture"]
        assert {name: float(shown[name]) for name in metrics} == metrics
        curve = {str(point["step"]): round(point["value"], 3) for point in trial["intermediate_values"]}
        assert curve == {epoch: round(value, 3) for epoch, value in candidate["curve"].items()}
        if candidate["status"] != "running":
            assert json.loads(shown["outcome"])["status"] == candidate["status"]
