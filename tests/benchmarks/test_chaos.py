"""A short form of `python -m benchmarks.chaos`: a worker, a node and the driver of a search on a cluster are killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests_support import RECIPE, experiment_of

from benchmarks.chaos import KINDS, chaos, epochs_log

pytestmark = pytest.mark.slow

CANDIDATES, EPOCHS = 10, 16


@pytest.fixture
def experiment(user_folder, monkeypatch):
    """A search over a space that lies outside of the repository: workers have it only if it travels to them."""
    monkeypatch.setenv("PYTHONPATH", "")
    settings = experiment_of(
        name="chaos",
        space="my_space:Tiny",
        controller={"name": "random"},
        executor={"name": "ray", "workers": 2, "cpus": 1},
        training={"epochs": EPOCHS, "learning_rate": 0.01},
        outcomes={"crashed": {"retries": 5}},
        survivors=1,
        recipe=RECIPE,
    )
    path = user_folder / "mine.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_nothing_is_lost_repeated_or_changed(experiment, tmp_path):
    heard = []
    result = chaos(experiment, tmp_path / "chaos", candidates=CANDIDATES, faults=3, seed=0, on_event=heard.append)
    assert sorted(fault.kind for fault in result.faults) == sorted(KINDS)
    assert result.sound, result
    assert (result.done, result.missing, result.running, result.twice, result.different) == (CANDIDATES, [], [], [], [])
    assert result.report and result.epochs == CANDIDATES * EPOCHS
    # Each fault repeats at most the epoch under way of each of the two candidates.
    repeated = result.epochs_trained - result.epochs
    assert repeated <= 2 * len(result.faults), f"{repeated} epochs were trained again"
    report = json.loads((tmp_path / "chaos/rough/report.json").read_text())
    assert {candidate["status"] for candidate in report["candidates"]} == {"done"}
    assert len({candidate["architecture"] for candidate in report["candidates"]}) == CANDIDATES
    crashed = [attempt for candidate in report["candidates"] for attempt in candidate["attempts"]]
    assert crashed and {attempt["status"] for attempt in crashed} == {"crashed"}
    assert [stage["name"] for stage in report["survivors"][0]["stages"]][-1] == "compiled"
    assert len({line["process"] for line in epochs_log(tmp_path / "chaos/rough")}) >= 4, "nobody died"
    assert len(heard) == 2 + len(result.faults)


def test_a_search_of_a_table_that_is_killed_again_and_again_is_the_undisturbed_one(tmp_path):
    """Evolution, whose every proposal depends on what it was told before."""
    experiment = Path(__file__).parents[2] / "experiments/table.yaml"
    if not (Path(os.environ.get("NASBENCH_DATA", "")) / "nasbench201").is_dir():
        pytest.skip("NASBENCH_DATA names no folder with nasbench201")
    result = chaos(experiment, tmp_path / "chaos", candidates=1500, faults=2, seed=1)
    assert result.sound, result
    assert [fault.kind for fault in result.faults] == ["driver"] * 2
    outcomes = [json.loads((tmp_path / "chaos" / name / "report.json").read_text()) for name in ("calm", "rough")]
    assert outcomes[0]["front"] == outcomes[1]["front"] and len(outcomes[0]["candidates"]) == 1500


def test_no_cluster_at_the_address_is_said_in_one_sentence(user_folder):
    (user_folder / "mine.yaml").write_text(
        yaml.safe_dump(experiment_of(executor={"name": "ray"}, ray={"address": "127.0.0.1:1"}))
    )
    command = [sys.executable, "-c", "from nasbench.cli.app import main; main()"]
    done = subprocess.run(
        [*command, "search", str(user_folder / "mine.yaml"), "--run", str(user_folder / "run")],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: there is no Ray cluster at ray.address '127.0.0.1:1'")
