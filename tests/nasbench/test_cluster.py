"""A search on a Ray cluster of several nodes, one of which dies; all nodes are on this machine."""

import json
import os
import subprocess
import sys
import time
from collections import Counter

import pytest
import yaml
from tests_support import experiment_of

pytestmark = pytest.mark.slow

CANDIDATES = 12


@pytest.fixture
def cluster(monkeypatch):
    """A head without processors, and two nodes for one candidate each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.nodes_of_workers = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made
    made.shutdown()


def lines(log):
    """The whole lines of the log of epochs."""
    return [json.loads(line) for line in log.read_bytes().split(b"\n")[:-1]] if log.exists() else []


def command(*words):
    return [sys.executable, "-c", "from nasbench.cli.app import main; main()", *words]


def test_a_user_space_is_searched_on_a_cluster_and_a_node_dies(cluster, user_folder):
    asked = experiment_of(
        space="my_space:Tiny",
        controller={"name": "random"},
        executor={"name": "ray", "workers": 2, "cpus": 1},
        ray={"address": cluster.address},
        training={"epochs": 25, "learning_rate": 0.01},
        search={"candidates": CANDIDATES},
    )
    (user_folder / "mine.yaml").write_text(yaml.safe_dump(asked))
    run = user_folder / "run"
    # The workers are started by the nodes, and PYTHONPATH is empty: they have the space only if it travels.
    out, err = user_folder / "out.json", user_folder / "err.txt"
    process = subprocess.Popen(
        command("search", str(user_folder / "mine.yaml"), "--run", str(run), "--json"),
        env={**os.environ, "PYTHONPATH": ""},
        stdout=out.open("w"),
        stderr=err.open("w"),
    )
    log, killed = run / "checkpoints" / "epochs.log", False
    while process.poll() is None and not killed:
        workers = {line["process"] for line in lines(log)}
        if len(workers) == 2 and len(list(log.parent.glob("*[0-9].safetensors"))) >= 3:
            cluster.remove_node(cluster.nodes_of_workers[0], allow_graceful=False)
            cluster.add_node(num_cpus=1)
            killed = True
        time.sleep(0.05)
    process.wait(timeout=240)
    out, err = out.read_text(), err.read_text()
    assert process.returncode == 0, err
    assert killed, f"no node was killed: {err}"
    report = json.loads(out)
    assert report["status"] == "complete"
    assert Counter(candidate["status"] for candidate in report["candidates"]) == {"done": CANDIDATES}
    crashed = [each for each in report["candidates"] if each["attempts"]]
    assert [attempt["status"] for each in crashed for attempt in each["attempts"]] == ["crashed"], err
    epochs = Counter((line["candidate"], line["epoch"]) for line in lines(log))
    assert set(epochs) == {(number, epoch) for number in range(CANDIDATES) for epoch in range(1, 26)}
    repeated = [key for key, count in epochs.items() if count > 1]
    assert len(repeated) <= 1, f"more than the epoch under way was trained twice: {repeated}"


def test_no_cluster_at_the_address_is_said_in_one_sentence(user_folder):
    (user_folder / "mine.yaml").write_text(
        yaml.safe_dump(experiment_of(executor={"name": "ray"}, ray={"address": "127.0.0.1:1"}))
    )
    done = subprocess.run(
        command("search", str(user_folder / "mine.yaml"), "--run", str(user_folder / "run")),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: there is no Ray cluster at ray.address '127.0.0.1:1'")
