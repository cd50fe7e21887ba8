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
        told = json.loads(out)
        assert set(told) == {*COUNTS, *OTHERS}
        assert told["time_left_s"] is None or told["time_left_s"] >= 0
        code, table, _ = nasbench("status", run)
        assert code == 0
        return told, " ".join(table.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())

    return ask


def test_before_the_first_candidate(status, tmp_path):
    """A run that measures latency has no journal yet; looking at it makes none."""
    folder = RunFolder(tmp_path / "run")
    start_run(folder, parse_experiment(experiment_of()), tmp_path, "test")
    files = sorted(path.name for path in folder.path.iterdir())
    told, table = status(folder.path)
    assert {told[key] for key in COUNTS} == {0}
    assert (told["asked"], told["active"], told["status"]) == (6, False, "the search has not ended")
    assert (told["best"], told["time_left_s"], told["utilization"]) == (None, None, None)
    assert told["outcomes"] == {} and told["front"] == [] and told["training"] == []
    assert "0 of 6 finished, 0 running" in table
    with folder.locked():
        told, _ = status(folder.path)
        assert (told["active"], told["status"]) == (True, "running")
    assert sorted(path.name for path in folder.path.iterdir() if path.name != ".lock") == files


def test_while_it_searches_when_it_was_killed_and_at_the_end(status, nasbench, user_folder):
    """One process, whose candidates wait in their second epoch until they may go on."""
    write_gated(user_folder)
    asked = experiment_of(
        space="gated:Gated", controller="random", training={"epochs": 2}, search={"candidates": 10, "max_hours": 1}
    )
    (user_folder / "mine.yaml").write_text(yaml.safe_dump(asked))
    run, log = user_folder / "run", user_folder / "log.txt"
    process = nasbench_process("search", user_folder / "mine.yaml", "--run", run, log=log)
    waits = user_folder / f"waits.{process.pid}"
    wait_until(waits.exists, process, log)
    told, _ = status(run)
    assert (told["done"], told["running"], told["best"], told["time_left_s"]) == (0, 1, None, None)
    (user_folder / "pass").touch()
    wait_until(lambda: outcomes(run) and waits.exists(), process, log)

    told, table = status(run)
    assert (told["active"], told["status"], told["asked"]) == (True, "running", 10)
    assert (told["done"], told["running"], told["failed"], told["outcomes"]) == (1, 1, 0, {"done": 1})
    assert told["training"] == [{"id": 1, "epoch": 1, "epochs": 2}]
    assert 0 < told["time_left_s"] <= 3600
    assert 0 < told["utilization"] <= 1
    assert (told["best"]["id"], told["front"]) == (0, [0])
    assert "1 of 10 finished, 1 running" in table
    assert "candidate 1 at epoch 1 of 2" in table

    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed, table = status(run)
    assert killed == told | {"active": False, "status": "the search has not ended"}
    assert "the search has not ended" in table

    (user_folder / "open").touch()
    code, _, err = nasbench("resume", run, "-o", "search.candidates=2")
    assert code == 0, err
    told, _ = status(run)
    assert (told["active"], told["status"], told["asked"]) == (False, "complete", 2)
    assert (told["done"], told["running"], told["training"], told["time_left_s"]) == (2, 0, [], None)

    # It goes on for more candidates and is stopped: what an earlier end had left does not stand for it any more.
    (user_folder / "stop").touch()
    assert nasbench("resume", run, "-o", "search.candidates=4")[0] == 1
    told, _ = status(run)
    assert (told["status"], told["done"], told["running"]) == ("the search has not ended", 2, 1)
    assert told["time_left_s"] > 0
    assert json.loads(nasbench("report", run, "--json")[1])["status"] == "the search has not ended"
