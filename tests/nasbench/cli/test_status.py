"""`nasbench status` of a run before, while, and after it searches, and of one that was killed."""

import json
import os
import signal

import pytest
import yaml
from tests_support import experiment_of, nasbench_process, wait_until, write_gated

from benchmarks.chaos import outcomes
from nasbench.experiment.loading import parse_experiment
from nasbench.experiment.stored import start_run
from nasbench.storage.run_folder import RunFolder

COUNTS = ("done", "stopped", "running", "failed", "infeasible", "cached", "survivors")
OTHERS = ("run", "status", "active", "asked", "outcomes", "front", "best", "utilization", "time_left_s", "training")


@pytest.fixture
def status(nasbench):
    """What `nasbench status RUN --json` says, and the table for people without its frame."""

    def ask(run):
        code, out, err = nasbench("status", run, "--json")
        assert (code, err) == (0, "")
        state = json.loads(out)
        assert set(state) == {*COUNTS, *OTHERS}
        assert state["time_left_s"] is None or state["time_left_s"] >= 0
        code, table, _ = nasbench("status", run)
        assert code == 0
        return state, " ".join(table.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())

    return ask


def test_before_the_first_candidate(status, tmp_path):
    """A run that measures latency has no journal yet; looking at it makes none."""
    folder = RunFolder(tmp_path / "run")
    start_run(folder, parse_experiment(experiment_of()), tmp_path, "test")
    files = sorted(path.name for path in folder.path.iterdir())
    state, table = status(folder.path)
    assert {state[key] for key in COUNTS} == {0}
    assert (state["asked"], state["active"], state["status"]) == (6, False, "the search has not ended")
    assert (state["best"], state["time_left_s"], state["utilization"]) == (None, None, None)
    assert state["outcomes"] == {} and state["front"] == [] and state["training"] == []
    assert "0 of 6 finished, 0 running" in table
    with folder.locked():
        state, _ = status(folder.path)
        assert (state["active"], state["status"]) == (True, "running")
    assert sorted(path.name for path in folder.path.iterdir() if path.name != ".lock") == files


def test_while_it_searches_when_it_was_killed_and_at_the_end(status, nasbench, user_folder):
    """One process, whose candidates wait in their second epoch until they may go on."""
    write_gated(user_folder)
    experiment = experiment_of(
        space="gated:Gated", controller="random", training={"epochs": 2}, search={"candidates": 10, "max_hours": 1}
    )
    (user_folder / "mine.yaml").write_text(yaml.safe_dump(experiment))
    run, log = user_folder / "run", user_folder / "log.txt"
    process = nasbench_process("search", user_folder / "mine.yaml", "--run", run, log=log)
    waits = user_folder / f"waits.{process.pid}"
    wait_until(waits.exists, process, log)
    state, _ = status(run)
    assert (state["done"], state["running"], state["best"], state["time_left_s"]) == (0, 1, None, None)
    (user_folder / "pass").touch()
    wait_until(lambda: outcomes(run) and waits.exists(), process, log)

    state, table = status(run)
    assert (state["active"], state["status"], state["asked"]) == (True, "running", 10)
    assert (state["done"], state["running"], state["failed"], state["outcomes"]) == (1, 1, 0, {"done": 1})
    assert state["training"] == [{"id": 1, "epoch": 1, "epochs": 2}]
    assert 0 < state["time_left_s"] <= 3600
    assert 0 < state["utilization"] <= 1
    assert (state["best"]["id"], state["front"]) == (0, [0])
    assert "1 of 10 finished, 1 running" in table
    assert "candidate 1 at epoch 1 of 2" in table

    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed, table = status(run)
    assert killed == state | {"active": False, "status": "the search has not ended"}
    assert "the search has not ended" in table

    (user_folder / "open").touch()
    code, _, err = nasbench("resume", run, "-o", "search.candidates=2")
    assert code == 0, err
    state, _ = status(run)
    assert (state["active"], state["status"], state["asked"]) == (False, "complete", 2)
    assert (state["done"], state["running"], state["training"], state["time_left_s"]) == (2, 0, [], None)

    # It goes on for more candidates and is stopped: what an earlier end had left does not stand for it any more.
    (user_folder / "stop").touch()
    assert nasbench("resume", run, "-o", "search.candidates=4")[0] == 1
    state, _ = status(run)
    assert (state["status"], state["done"], state["running"]) == ("the search has not ended", 2, 1)
    assert state["time_left_s"] > 0
    assert json.loads(nasbench("report", run, "--json")[1])["status"] == "the search has not ended"
