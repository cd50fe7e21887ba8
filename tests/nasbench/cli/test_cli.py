"""The command line as a user meets it: exit codes, one-sentence errors, JSON."""

import json
from pathlib import Path

import pytest
import yaml
from tests_support import RECIPE, check_accuracies_of_export, experiment_of

from controllers import CONTROLLERS
from nasbench.data import DATASETS
from nasbench.evaluators.registry import EVALUATORS
from nasbench.latency.predictors import PREDICTORS
from nasbench.objectives.metrics import METRICS
from nasbench.problems.names import PROBLEMS
from nasbench_compression import BACKENDS, STEPS
from search_spaces import SPACES

EXPERIMENTS = Path(__file__).parents[3] / "experiments"


MISTAKES = {
    "misspelt key": ({"trainig": {"epochs": 1}}, "Did you mean 'training'?"),
    "misspelt inner key": ({"training": {"epoch": 1}}, "Did you mean 'epochs'?"),
    "unknown space": ({"space": {"name": "mobil"}}, "Did you mean 'mobile'?"),
    "unknown space option": ({"space": {"name": "mobile", "layer": 2}}, "Did you mean 'layers'?"),
    "unknown controller": ({"controller": {"name": "regularised_evolution"}}, "Did you mean 'regularized_evolution'?"),
    "unknown controller option": (
        {"controller": {"name": "regularized_evolution", "popluation": 4}},
        "Did you mean 'population'?",
    ),
    "bad controller option": (
        {"controller": {"name": "regularized_evolution", "population": 2, "tournament": 5}},
        "tournament=5 must be from 1 to population=2",
    ),
    "unknown data set": ({"data": {"name": "digit"}}, "Did you mean 'digits'?"),
    "negative target": (
        {"reward": {"name": "weighted_product", "target": {"latency_ms": -1}}},
        "reward.target.latency_ms is -1: it should be greater than 0.",
    ),
    "unknown metric": ({"objectives": [{"metric": "accuracy", "goal": "max"}]}, "val_acc_pct"),
    "test accuracy": ({"objectives": [{"metric": "test_acc_pct", "goal": "max"}]}, "Did you mean 'val_acc_pct'?"),
    "unknown runtime": ({"device": {"runtime": "onxruntime"}}, "Did you mean 'onnxruntime'?"),
    "unknown step": ({"recipe": [{"prun": {"ratio": 0.5}}]}, "Did you mean 'prune'?"),
    "bad step option": ({"recipe": [{"prune": {"ratio": 1.5}}]}, "1.5"),
    "senseless recipe": ({"recipe": [{"compile": {}}, {"prune": {"ratio": 0.5}}]}, "compile once, as the last step"),
    "pareto with reinforce": (
        {"reward": {"name": "pareto"}, "controller": {"name": "reinforce"}},
        "controller 'reinforce' takes one score",
    ),
    "batch too large": ({"training": {"epochs": 1, "batch_size": 5000}}, "digits has 1149 training images"),
    "missing module": ({"space": {"name": "no_such_file:Space"}}, "there is no module 'no_such_file'"),
}


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_cost_one_sentence_and_exit_code_2(nasbench, write, tmp_path, changes, message):
    code, out, err = nasbench("search", write(**changes), "--run", tmp_path / "run")
    assert code == 2
    assert out == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists(), "a run folder was made for an experiment that cannot run"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "missing.yaml"], "there is no file missing.yaml"),
        (["resume", "nowhere"], "nowhere is no run folder"),
        (["status", "nowhere"], "nowhere is no run folder"),
        (["report", "nowhere"], "nowhere is no run folder"),
        (["benchmark", "nowhere"], "nowhere is no model folder"),
        (["compress", "nowhere", "missing.yaml", "--out", "x"], "there is no file missing.yaml"),
        (["export", "nowhere", "--backend", "onxruntime", "--out", "x"], "Did you mean 'onnxruntime'?"),
        (["list", "space"], "Did you mean 'spaces'?"),
        (["check-space", "mobil"], "Did you mean 'mobile'?"),
        (["check-space", "mobile", "--input-shape", "3,x"], "--input-shape is '3,x'"),
    ],
)
def test_mistakes_of_every_command(nasbench, words, message):
    code, out, err = nasbench(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_unknown_commands_and_options_exit_with_2(nasbench):
    assert nasbench("serch")[0] == 2
    assert nasbench("search", "x.yaml", "--sed", "3")[0] == 2


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("spaces", SPACES),
        ("controllers", CONTROLLERS),
        ("steps", STEPS),
        ("backends", BACKENDS),
        ("problems", PROBLEMS),
        ("data", DATASETS),
        ("datasets", DATASETS),
        ("evaluators", EVALUATORS),
        ("predictors", PREDICTORS),
        ("metrics", METRICS),
        ("rewards", ["weighted_product", "pareto", "scalar"]),
        ("schedulers", ["asha", "hyperband", "median_stopping"]),
    ],
)
def test_list_says_what_there_is(nasbench, kind, names):
    code, out, _ = nasbench("list", kind, "--json")
    rows = json.loads(out)
    assert code == 0
    assert {row["name"] for row in rows} >= set(names)
    for row in rows:
        assert row["summary"], row
        assert row.get("source") or kind in ("evaluators", "metrics", "problems", "rewards"), row
        assert ("why_unavailable" in row) == (kind in ("backends", "data", "datasets"))
    assert all(name in nasbench("list", kind)[1] for name in names)


def test_dry_run_checks_and_runs_nothing(nasbench, write, tmp_path):
    code, out, _ = nasbench("search", write(recipe=RECIPE), "--dry-run", "--json", "-o", "training.epochs=7")
    plan = json.loads(out)
    assert code == 0
    assert plan["experiment"]["training"]["epochs"] == 7
    assert plan["stages"] == ["searched", "pruned", "distilled", "quantized", "compiled"]
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


READY = set(EXPERIMENTS.glob("*.yaml")) - {EXPERIMENTS / "zoo.yaml", EXPERIMENTS / "joint-elastic.yaml"}
"""Experiments that need nothing made before; that of an elastic network is tried where there is one."""


@pytest.mark.parametrize("path", sorted(READY), ids=lambda path: path.stem)
def test_shipped_experiments_are_ready_to_run(nasbench, path):
    code, out, err = nasbench("search", path, "--dry-run", "--json")
    if "dataset-fashion-mnist" in err:
        pytest.skip("Fashion-MNIST is not installed (Debian package dataset-fashion-mnist)")
    assert code == 0, err
    assert json.loads(out)["experiment"]["name"] == path.stem


def test_a_sound_space_and_a_faulty_one(nasbench, user_folder, monkeypatch):
    code, out, _ = nasbench("check-space", "nasbench201", "--json")
    assert (code, json.loads(out)["problems"]) == (0, [])
    faulty = (user_folder / "my_space.py").read_text().replace("4 * channels, task.classes", "4 * channels, 3")
    Path("faulty_space.py").write_text(faulty)
    code, out, _ = nasbench("check-space", "faulty_space:Tiny")
    assert code == 1
    assert "to (4, 3); it must give (4, 10)" in " ".join(out.split())


def test_a_search_of_several_fidelities(nasbench, write):
    """Hyperband on digits: two of three networks are trained for one epoch only, and none of those survives."""
    path = write(controller={"name": "hyperband"}, training={"epochs": 3}, search={"candidates": 6}, survivors=2)
    code, out, err = nasbench("search", path, "--run", "run", "--json")
    assert code == 0, err
    report = json.loads(out)
    epochs = {candidate["id"]: candidate["epochs"] for candidate in report["candidates"]}
    assert list(epochs.values()) == [1, 1, 1, 3, 3, 3]
    assert len(report["survivors"]) == 2
    assert {epochs[number] for number in report["front"]} == {3}
    assert {epochs[survivor["candidate"]] for survivor in report["survivors"]} == {3}
    code, out, _ = nasbench("status", "run", "--json")
    assert epochs[json.loads(out)["best"]["id"]] == 3
    assert "trained for fewer epochs" in Path("run/report.html").read_text()

    code, out, err = nasbench("resume", "run", "-o", "survivors=[0]", "--json")
    assert code == 0, err
    named = json.loads(out)
    assert [survivor["candidate"] for survivor in named["survivors"]] == [0], "one, and not two as before"
    assert named["candidates"] == report["candidates"]
    code, _, err = nasbench("resume", "run", "-o", "survivors=[0, 99]")
    assert code == 2 and "candidate 99 is none of this search" in " ".join(err.split())
    code, _, err = nasbench("search", path, "--run", "other", "-o", "survivors=[0]")
    assert code == 2 and "candidate 0 is none of this search" in " ".join(err.split())


def test_search_then_everything_that_can_be_done_with_a_model(nasbench, write, tmp_path):
    """One small search, and every other command on what it leaves."""
    device = {"runtime": "onnxruntime", "samples": 12}
    objectives = [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "latency_ms", "goal": "min", "limit": 50}]
    reward = {"name": "weighted_product", "target": {"latency_ms": 0.1}}
    changes = {"device": device, "objectives": objectives, "reward": reward, "recipe": RECIPE, "survivors": 1}
    changes["gate"] = {"max_drop_pct": 100}  # how much a small network loses, the seed decides
    path = write(training={"epochs": 4, "learning_rate": 0.01}, search={"candidates": 3}, **changes)
    code, out, err = nasbench("search", path, "--run", "run", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report == json.loads(Path("run/report.json").read_text())
    assert {"experiment", "environment", "candidates", "front", "survivors", "predictor", "compute"} <= set(report)
    assert [candidate["status"] for candidate in report["candidates"]] == ["done"] * 3
    assert report["predictor"]["n"] == 12
    (survivor,) = report["survivors"]
    stages = {stage["name"]: stage for stage in survivor["stages"]}
    assert list(stages) == ["searched", "pruned", "distilled", "quantized", "compiled"]
    for stage in stages.values():
        assert {"test_acc_pct", "val_acc_pct", "params", "macs", "size_bytes"} <= set(stage["metrics"])
        latency = stage["metrics"]["latency_ms"]
        assert {"median", "p95", "batch", "threads", "repeats", "runtime"} <= set(latency)
        assert 0 < latency["median"] <= latency["p95"]
        assert latency["runtime"].startswith("onnxruntime")
        assert (Path("run") / stage["artefact"]).is_dir()
    assert stages["pruned"]["metrics"]["params"] < stages["searched"]["metrics"]["params"]
    assert stages["quantized"]["metrics"]["size_bytes"] < stages["distilled"]["metrics"]["size_bytes"]
    assert stages["compiled"]["metrics"]["latency_ms"]["precision"] == "int8"
    assert "<html" in Path("run/report.html").read_text()[:200]
    assert survivor["drawing"] == "survivors/1/architecture.svg" and survivor["drawing_error"] is None
    assert Path("run/survivors/1/architecture.svg").read_text() in Path("run/report.html").read_text()
    assert len(Path("run/trials.csv").read_text().splitlines()) == 4
    assert not [file for file in Path("run").rglob("*") if file.suffix in (".pkl", ".pt", ".pth", ".pickle")]

    code, out, _ = nasbench("status", "run", "--json")
    state = json.loads(out)
    assert (code, state["done"], state["active"], state["survivors"], state["status"]) == (0, 3, False, 1, "complete")

    before = Path("run/survivors/1/survivor.json").read_text()
    code, out, _ = nasbench("resume", "run", "--json")
    assert code == 0
    assert json.loads(out)["candidates"] == report["candidates"], "a finished run was run again"
    assert Path("run/survivors/1/survivor.json").read_text() == before

    code, _, err = nasbench("search", path, "--run", "run", "-o", "training.epochs=9")
    assert code == 2
    assert "+  epochs: 9" in err

    Path("run/report.json").unlink()
    assert nasbench("report", "run")[0] == 0
    assert json.loads(Path("run/report.json").read_text()) == report

    searched = "run/survivors/1/searched"
    code, out, _ = nasbench("benchmark", searched, "--batch", "1,4", "--seconds", "0.05", "--json")
    entries = json.loads(out)
    assert code == 0
    assert [(e["backend"], e["batch"]) for e in entries] == [
        ("eager", 1),
        ("onnxruntime", 1),
        ("eager", 4),
        ("onnxruntime", 4),
    ]
    for entry in entries:
        assert {"median", "p95", "iqr"} <= set(entry["latency_ms"])
        assert entry["protocol"]["batch"] == entry["batch"]
        expected = 1000 * entry["batch"] / entry["latency_ms"]["median"]
        assert entry["throughput_per_s"] == pytest.approx(expected)

    code, out, _ = nasbench("benchmark", "run/survivors/1/compiled", "--seconds", "0.05", "--json")
    assert (code, json.loads(out)[0]["precision"]) == (0, "int8")

    code, out, err = nasbench(
        "export", searched, "--backend", "onnxruntime", "--precision", "fp32", "--out", "ex", "--json"
    )
    exported = json.loads(out)
    assert code == 0, err
    assert Path(exported["artefact"]).stat().st_size == exported["size_bytes"]
    check_accuracies_of_export(exported)

    Path("recipe.yaml").write_text(yaml.safe_dump([{"decompose": {"ratio": 0.6, "epochs": 1}}, {"quantize": None}]))
    code, out, err = nasbench("compress", searched, "recipe.yaml", "--out", "smaller", "--json")
    assert code == 0, err
    assert [stage["name"] for stage in json.loads(out)["stages"]] == ["searched", "decomposed", "quantized"]
    assert nasbench("benchmark", "smaller/quantized", "--backend", "eager", "--seconds", "0.05")[0] == 0

    code, _, err = nasbench("compress", "run/survivors/1/compiled", "recipe.yaml", "--out", "x")
    assert code == 2
    assert "compiled by onnxruntime" in err


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_users_own_space_runs_with_every_controller(nasbench, user_folder, controller, tmp_path):
    options = {
        "regularized_evolution": {"population": 2, "tournament": 2},
        "sequential": {"architectures": 2, "keep": 1, "controller": "random"},
    }.get(controller, {})
    # The one that decides a recipe needs one that leaves something to choose.
    recipe = [{"prune": {"ratio": {"choice": [0, 0.2, 0.4]}}}] if controller == "sequential" else []
    experiment = experiment_of(
        space="my_space:Tiny",
        controller={"name": controller, **options},
        search={"candidates": 4},
        recipe=recipe,
    )
    (user_folder / "mine.yaml").write_text(yaml.safe_dump(experiment))
    code, out, err = nasbench("search", user_folder / "mine.yaml", "--run", "run", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert [candidate["status"] for candidate in report["candidates"]] == ["done"] * 4
    assert report["candidates"][0]["architecture"].startswith("depth=")


def test_a_search_in_which_all_fails_says_why_and_exits_with_1(nasbench, write):
    code, _, err = nasbench(
        "search",
        write(training={"epochs": 3, "learning_rate": 1e9, "optimizer": "sgd"}, search={"max_failures": 1}),
        "--run",
        "run",
    )
    report = json.loads(Path("run/report.json").read_text())
    assert code == 1
    assert "2 candidates failed, more than search.max_failures=1" in report["status"]
    assert all("Diverged" in candidate["error"] for candidate in report["candidates"])
    assert f"last failure: candidate 1 diverged: {report['candidates'][1]['error']}" in err.splitlines()
    assert "Traceback" not in err


WIDE_FAIL = """
from my_space import Tiny


class WideFail(Tiny):
    name = "wide_fail"

    def build(self, arch, task):
        if self.choices(arch)["width"] == 32:
            raise ValueError("too wide")
        return super().build(arch, task)
"""


@pytest.mark.parametrize(
    ("search", "counts", "expected", "status"),
    [
        ({"candidates": 6, "max_failures": 1}, True, 1, "2 candidates failed, more than search.max_failures=1"),
        ({"candidates": 6, "max_failures": 1}, False, 0, "complete"),
        ({"candidates": 6, "max_failures": 9}, True, 0, "complete"),
        ({"candidates": 100, "max_failures": 9}, True, 0, "proposals were all known already"),
    ],
)
def test_exit_code_1_only_if_the_search_ended_because_of_failures(
    nasbench, user_folder, search, counts, expected, status
):
    """Some designs are done in each case, and some are `invalid`, which is a failure of another name."""
    (user_folder / "wide_fail.py").write_text(WIDE_FAIL)
    experiment = experiment_of(
        space="wide_fail:WideFail",
        controller="random",
        search=search,
        outcomes={"invalid": {"counts": counts}},
        start_with=[f"depth=1,width={width},kernel=1" for width in (8, 32)] + ["depth=2,width=32,kernel=1"],
    )
    (user_folder / "mine.yaml").write_text(yaml.safe_dump(experiment))
    code, out, err = nasbench("search", user_folder / "mine.yaml", "--run", "run", "--json")
    report = json.loads(out)
    rows = {row["kind"]: row["count"] for row in report["outcomes"]}
    assert code == expected, err
    assert rows["done"] > 0 and rows["invalid"] > 1
    assert report["status"].endswith(status)
    last = [line.partition(" invalid: ")[2] for line in err.splitlines() if line.startswith("last failure: candidate")]
    assert last == ["the network cannot be built: ValueError: too wide"] * expected


def test_a_limit_is_checked_before_training(nasbench, write):
    objectives = [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "macs", "goal": "min", "limit": 60_000}]
    code, out, _ = nasbench("search", write(objectives=objectives), "--run", "run", "--json")
    report = json.loads(out)
    assert code == 0
    done = [candidate for candidate in report["candidates"] if candidate["status"] == "done"]
    refused = [candidate for candidate in report["candidates"] if candidate["status"] == "infeasible"]
    assert len(done) == 6
    assert all(candidate["metrics"]["macs"] <= 60_000 for candidate in done)
    assert refused, "the limit refused nothing, so this test shows nothing"
    assert all("is over the limit 6e+04" in candidate["error"] for candidate in refused)
    assert not [
        candidate for candidate in refused if Path(f"run/checkpoints/{candidate['id']:05d}.safetensors").exists()
    ]
