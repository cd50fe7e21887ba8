"""kill -9 of a whole search, in real processes, under Ray, with a space from outside of the repository."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from tests_support import RECIPE, experiment_of

pytestmark = pytest.mark.slow

CANDIDATES = 14


def start(folder: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-c", "from nasbench.cli.app import main; main()", *words]
    return subprocess.Popen(
        command, cwd=folder, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def journal(run: Path) -> list[dict]:
    lines = (
        run.joinpath("study.journal").read_bytes().split(b"\n")[:-1] if run.joinpath("study.journal").exists() else []
    )
    return [json.loads(line) for line in lines]


def outcomes(run: Path) -> list[tuple[int, dict]]:
    """Every outcome that was ever written to the journal, in order: (trial, outcome)."""
    return [
        (entry["trial_id"], entry["user_attr"]["outcome"])
        for entry in journal(run)
        if "outcome" in entry.get("user_attr", {})
    ]


def test_a_killed_search_loses_nothing_and_repeats_nothing(user_folder):
    asked = experiment_of(
        space="my_space:Tiny",
        controller={"name": "random"},
        executor={"name": "ray", "workers": 2, "cpus": 1},
        training={"epochs": 4, "learning_rate": 0.01},
        search={"candidates": CANDIDATES},
        survivors=1,
        recipe=RECIPE,
    )
    (user_folder / "mine.yaml").write_text(yaml.safe_dump(asked))
    run = user_folder / "run"
    process = start(user_folder.parent, "search", str(user_folder / "mine.yaml"), "--run", str(run))
    deadline = time.monotonic() + 180
    while len(outcomes(run)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[1]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = outcomes(run)
    assert 3 <= len(finished) < CANDIDATES, "the search was not killed in its middle"

    resumed = start(user_folder.parent, "resume", str(run), "--json")
    out, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, err
    written = outcomes(run)
    assert written[: len(finished)] == finished, "what had finished was changed"
    assert max(Counter(trial for trial, _ in written).values()) == 1, "a candidate was evaluated twice"
    report = json.loads(out)
    assert [candidate["id"] for candidate in report["candidates"]] == list(range(CANDIDATES))
    assert {candidate["status"] for candidate in report["candidates"]} == {"done"}
    assert len({candidate["architecture"] for candidate in report["candidates"]}) == CANDIDATES
    assert report["status"] == "complete"
    assert [stage["name"] for stage in report["survivors"][0]["stages"]][-1] == "compiled"
