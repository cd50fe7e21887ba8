"""Ctrl-C in real processes: once lets running candidates finish, twice stops now, and either way the run goes on."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from tests_support import experiment_of, nasbench_process, wait_until, write_gated

from benchmarks.chaos import epochs_log, outcomes

pytestmark = pytest.mark.slow

CANDIDATES = 4


class Searches:
    """Processes that search in one folder, with candidates that wait in their second epoch."""

    def __init__(self, folder, nasbench):
        self.folder, self.nasbench = folder, nasbench
        self.run, self.log = folder / "run", folder / "log.txt"
        self.pressed, self.process = 0, None
        write_gated(folder)

    def begin(self, *words, workers):
        """Start one; the processes in which candidates train, once all of them wait."""
        for path in self.folder.glob("waits.*"):
            path.unlink()
        self.process = nasbench_process(*words, log=self.log)

        def waiting():
            processes = {int(path.suffix[1:]) for path in self.folder.glob("waits.*")}
            return processes if len(processes) == workers else None

        return wait_until(waiting, self.process, self.log)

    def press(self):
        """Ctrl-C as a terminal sends it: to every process of the group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def press_once(self):
        """The first Ctrl-C, until it was heard."""
        self.press()
        self.pressed += 1
        sentence = "stopping after the running candidates finish; press Ctrl-C again to stop now"
        wait_until(lambda: self.log.read_text().count(sentence) == self.pressed, self.process, self.log)

    def stopped(self):
        """Wait until the process ends by itself, with exit code 1 and a sentence about going on."""
        assert self.process.wait(timeout=120) == 1, self.log.read_text()
        last = self.log.read_text().splitlines()[-1]
        assert last == f"stopped; nothing that finished is lost. Go on with: nasbench resume {self.run}"
        assert "Traceback" not in self.log.read_text()

    def counts(self):
        """Whether it is active, and how many candidates are done and running."""
        code, out, err = self.nasbench("status", self.run, "--json")
        assert code == 0, err
        state = json.loads(out)
        assert not state["failed"] and state["status"] in ("running", "the search has not ended")
        return state["active"], state["done"], state["running"]

    def finish(self):
        """Resume to the end, in this process: every candidate has one outcome, and no finished epoch is repeated."""
        (self.folder / "open").touch()
        code, out, err = self.nasbench("resume", self.run, "-o", "executor={name: inline}", "--json")
        assert code == 0, err
        report = json.loads(out)
        assert report["status"] == "complete"
        assert Counter(candidate["status"] for candidate in report["candidates"]) == {"done": CANDIDATES}
        assert sorted(outcomes(self.run)) == list(range(CANDIDATES))
        trained = Counter((line["candidate"], line["epoch"]) for line in epochs_log(self.run))
        assert trained == {(number, epoch): 1 for number in range(CANDIDATES) for epoch in (1, 2)}


@pytest.fixture
def searches(user_folder, nasbench):
    session = Searches(user_folder, nasbench)
    yield session
    if session.process is not None and session.process.poll() is None:
        os.killpg(session.process.pid, signal.SIGKILL)
        session.process.wait()


def write(folder, executor):
    experiment = experiment_of(
        space="gated:Gated",
        controller="random",
        executor=executor,
        training={"epochs": 2},
        search={"candidates": CANDIDATES},
    )
    (folder / "mine.yaml").write_text(yaml.safe_dump(experiment))
    return folder / "mine.yaml"


def test_inline_once_and_then_twice(searches):
    searches.begin("search", write(searches.folder, {"name": "inline"}), "--run", searches.run, workers=1)
    searches.press_once()
    assert searches.counts() == (True, 0, 1), "one Ctrl-C ended the candidate that was running"
    (searches.folder / "pass").touch()
    searches.stopped()
    assert searches.counts() == (False, 1, 0), "the candidate did not finish, or another one began"

    searches.begin("resume", searches.run, workers=1)
    searches.press_once()
    searches.press()
    searches.stopped()
    assert searches.counts() == (False, 1, 1)
    searches.finish()


def test_ray_once_and_twice(searches):
    """Of two running candidates one finishes after the first Ctrl-C, and the second one ends the other."""
    executor = {"name": "ray", "workers": 2}
    processes = searches.begin("search", write(searches.folder, executor), "--run", searches.run, workers=2)
    searches.press_once()
    assert searches.counts() == (True, 0, 2), "one Ctrl-C ended a candidate that was running"
    (searches.folder / "pass").touch()
    wait_until(lambda: outcomes(searches.run), searches.process, searches.log)
    assert searches.counts() == (True, 1, 1), "another candidate began"
    searches.press()
    searches.stopped()
    assert searches.counts() == (False, 1, 1)
    deadline = time.monotonic() + 60
    while any(map(alive, processes)):
        assert time.monotonic() < deadline, f"of the processes {processes} some still train"
        time.sleep(0.05)
    searches.finish()


def alive(process):
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
