"""The quickstart as a user runs it, with the numbers that it owes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bounds import check_learned
from judging import judge
from scipy.stats import norm

from nasbench.data import load_data

pytestmark = pytest.mark.slow

STAGES = ["searched", "pruned", "distilled", "quantized", "compiled"]
QUICKSTART = Path(__file__).parents[3] / "experiments" / "quickstart.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    command = [sys.executable, "-c", "from nasbench.cli.app import main; main()"]
    done = subprocess.run(
        [*command, "search", str(QUICKSTART), "--run", "run", "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((folder / "run" / "report.json").read_text())
    return folder / "run", report


def test_candidates_are_done_and_the_predictor_ranks(run):
    _, report = run
    done = [candidate for candidate in report["candidates"] if candidate["status"] == "done"]
    assert len(done) >= 24
    assert set(report["front"]) <= {candidate["id"] for candidate in done}
    assert report["predictor"]["n"] == 60
    # One in 100,000 predictors without any skill is above that: its rank correlation has a deviation of 1 / sqrt(59).
    assert report["predictor"]["spearman"] > norm.isf(1e-5) / 59**0.5
    assert report["predictor"]["median_error_pct"] > 0


def test_survivors_have_every_stage_with_every_number(run):
    folder, report = run
    assert len(report["survivors"]) >= 3
    for survivor in report["survivors"]:
        assert [stage["name"] for stage in survivor["stages"]] == STAGES
        for stage in survivor["stages"]:
            metrics = stage["metrics"]
            assert {"test_acc_pct", "val_acc_pct", "params", "macs", "size_bytes"} <= set(metrics)
            assert {"median", "p95", "batch", "threads", "repeats", "runtime"} <= set(metrics["latency_ms"])
            assert (folder / stage["artefact"] / "model.json").exists()


def test_accuracy_of_the_best_survivor_and_of_its_int8_artefact(run):
    _, report = run
    known = [candidate["metrics"]["val_acc_pct"] for candidate in report["candidates"] if candidate["status"] == "done"]
    best = 0.0
    for survivor in report["survivors"]:
        metrics = {stage["name"]: stage["metrics"] for stage in survivor["stages"]}
        best = max(best, metrics["searched"]["val_acc_pct"])
        for name, numbers in metrics.items():
            check_learned(name, numbers["test_acc_pct"], images=len(load_data("digits").test))
    assert best >= np.median(known)
    assert all(
        survivor["stages"][-1]["metrics"]["latency_ms"]["precision"] == "int8" for survivor in report["survivors"]
    )


def test_stored_models_give_the_accuracy_of_the_report(run):
    """The reloaded weights and the reloaded artefact score what the report says of them."""
    from nasbench.models import load_compiled, load_model

    folder, report = run
    test = load_data("digits").test
    for stage in report["survivors"][0]["stages"]:
        place = folder / stage["artefact"]
        model = load_compiled(place) if stage["name"] == "compiled" else load_model(place).model
        assert judge(model, test).accuracy_pct == pytest.approx(stage["metrics"]["test_acc_pct"], abs=1e-9)
