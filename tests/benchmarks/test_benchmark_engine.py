"""benchmarks.engine and benchmarks.schedulers: numbers that belong together, from short real runs; no speeds."""

import itertools
import json
import os
from dataclasses import replace

import pytest
import yaml
from tests_support import begin, experiment_of

from benchmarks.engine_speed import EngineSpeed, comparison, plan
from benchmarks.scheduler_gain import SchedulerGain, Searched, timed
from benchmarks.ways import Evaluation, Pass
from nasbench.evaluators.trial import Evaluated
from nasbench.experiment.build import prepare
from nasbench.experiment.loading import parse_experiment
from nasbench.search.executors.cluster import connected
from nasbench_registry import UserError

CANDIDATES = 4


def short(**changes):
    return experiment_of(objectives=[{"metric": "val_acc_pct", "goal": "max"}], reward={"name": "scalar"}) | changes


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """One Ray for the slow tests here, as it takes the longest to start; the commands use it and leave it alone."""
    experiment = parse_experiment(short(executor={"name": "ray", "workers": 2}))
    with connected(experiment.executor, experiment.ray, tmp_path_factory.mktemp("code")):
        yield


@pytest.mark.slow
def test_all_three_ways_train_the_same_candidates_and_the_ratios_follow_from_the_moments(benchmark, tmp_path, ray):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(experiment_of(survivors=2)))
    words = ["engine", "mine.yaml", "--candidates", CANDIDATES, "--rounds", 1, "--run", "runs/speed"]
    code, out, err = benchmark(*words, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report == json.loads((tmp_path / "runs/speed/benchmark.json").read_text())
    (passes,) = report["rounds"]
    assert [one["way"] for one in passes] == ["engine", "ray_tune", "loop"]
    trained = [
        [
            (evaluation["number"], evaluation["architecture"], evaluation["seed"], evaluation["val_loss"])
            for evaluation in one["evaluations"]
        ]
        for one in passes
    ]
    assert trained[0] == trained[1] == trained[2] and report["different"] == []
    assert len({architecture for _, architecture, _, _ in trained[0]}) == CANDIDATES
    for one in passes:
        evaluations = one["evaluations"]
        began, ended = (
            min(evaluation["began_s"] for evaluation in evaluations),
            max(evaluation["ended_s"] for evaluation in evaluations),
        )
        assert one["workers"] == (1 if one["way"] == "loop" else 2)
        assert one["called_s"] <= began and ended <= one["heard_s"] <= one["left_s"]
        assert all(
            0 < evaluation["training_seconds"] < evaluation["ended_s"] - evaluation["began_s"]
            for evaluation in evaluations
        )
        assert one["wall_s"] == pytest.approx(one["heard_s"] - began)
        assert one["startup_s"] == pytest.approx(began - one["called_s"])
        seconds = sum(evaluation["training_seconds"] for evaluation in evaluations)
        assert one["utilization_pct"] == pytest.approx(100 * seconds / (one["workers"] * one["wall_s"]))
        assert 0 < one["utilization_pct"] < 100
        assert one["candidates_per_hour"] == pytest.approx(3600 * CANDIDATES / one["wall_s"])
        processes = {evaluation["process"] for evaluation in evaluations}
        assert len(processes) <= one["workers"] and (os.getpid() in processes) == (one["way"] == "loop")
        for process in processes:  # which does one thing at a time
            own = sorted(
                (evaluation["began_s"], evaluation["ended_s"])
                for evaluation in evaluations
                if evaluation["process"] == process
            )
            assert all(first[1] <= then[0] for first, then in itertools.pairwise(own))
    ours, theirs = passes[0]["wall_s"], passes[1]["wall_s"]
    assert report["overhead"]["pct"] == pytest.approx([100 * (ours / theirs - 1)])
    assert report["overhead"]["ms_per_candidate"] == pytest.approx([1000 * (ours - theirs) / CANDIDATES])
    assert report["ways"]["engine"]["wall_s"] == {"mean": ours, "std": None, "n": 1}


def passed(way, workers, called_s, heard_s, spans):
    """A pass from (process, began_s, ended_s, training_seconds) of its candidates."""
    evaluations = (
        Evaluation(number, f"network {number}", number, process, began, ended, training, 90.0, 0.25)
        for number, (process, began, ended, training) in enumerate(spans)
    )
    return Pass(way, workers, called_s, heard_s, heard_s + 1, tuple(evaluations))


def test_ratios_by_hand():
    engine = passed("engine", 2, 0, 31, [(1, 10, 15, 4), (2, 11, 19, 8), (1, 17, 30, 12), (2, 20, 24, 4)])
    assert (engine.startup_s, engine.wall_s, engine.training_s) == (10, 21, 7)
    assert engine.utilization_pct == pytest.approx(100 * 28 / 42)
    assert engine.candidates_per_hour == pytest.approx(4 / 21 * 3600)
    assert engine.tail_s == 30 - 24
    assert engine.between_ms == 1000 * (2 + 1) / 2
    loop = passed("loop", 1, 0, 40, [(3, 0, 10, 9)] * 4)
    tune = [passed("ray_tune", 2, 0, 5 + wall, [(1, 5, 6, 1)] * 4) for wall in (20, 28)]
    speed = EngineSpeed(4, 2, ((engine, tune[0], loop), (loop, tune[1], engine)))
    assert speed.overhead_pct == pytest.approx([5, -25])
    assert speed.overhead_ms_per_candidate == pytest.approx([250, -1750])
    report = speed.to_json()
    assert report["overhead"]["pct_spread"] == pytest.approx({"mean": -10, "std": 30 / 2**0.5, "n": 2})
    assert report["ways"]["ray_tune"]["wall_s"] == pytest.approx({"mean": 24, "std": 8 / 2**0.5, "n": 2})
    assert report["different"] == []
    evaluation = replace(loop.evaluations[2], val_loss=0.26)
    changed = replace(loop, evaluations=(*loop.evaluations[:2], evaluation, loop.evaluations[3]))
    assert replace(speed, rounds=(*speed.rounds, (changed,))).different == [2]


def test_what_is_planned_is_what_a_study_of_the_comparison_asks_for():
    experiment = comparison(parse_experiment(short(controller="nsga2", scheduler=None, survivors=3)), 5, 3)
    assert (experiment.controller.name, experiment.search.candidates, experiment.executor.workers) == ("random", 5, 3)
    assert (experiment.executor.name, experiment.survivors) == ("ray", 0)
    prepared = prepare(experiment)
    trials = plan(prepared)
    assert [trial.number for trial in trials] == list(range(5))
    assert len({prepared.space.canonical(trial.arch) for trial in trials}) == 5
    assert plan(prepared) == trials
    few = short(space={"name": "mobile", "widths": [8], "layers": 1, "blocks": ["convolution"], "width_factors": [1.0]})
    with pytest.raises(UserError, match="gives 2 candidates, fewer than 5"):
        plan(prepare(comparison(parse_experiment(few), 5, 2)))


@pytest.mark.slow
def test_searches_of_the_same_time_are_completed_when_asked_again(benchmark, tmp_path, ray):
    settings = short(executor={"name": "ray", "workers": 2, "cpus": 1}, training={"epochs": 4, "learning_rate": 0.01})
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
    words = ["schedulers", "mine.yaml", "--seeds", 1, "--minutes", "0.06", "--run", "runs/s", "--json"]
    code, out, err = benchmark(*words, "--schedulers", "none")
    assert code == 0, err
    first = json.loads(out)
    assert "earlier run" not in err
    code, out, err = benchmark(*words, "--schedulers", "none,asha")
    assert code == 0, err
    second = json.loads(out)
    assert [(one["scheduler"], one["seed"]) for one in second["searches"]] == [("none", 0), ("asha", 0)]
    assert second["searches"][0] == first["searches"][0] and err.count("from an earlier run") == 1
    for one in second["searches"]:
        report = json.loads((tmp_path / one["run"] / "report.json").read_text())
        candidates = report["candidates"]
        done = [candidate["metrics"]["val_acc_pct"] for candidate in candidates if candidate["status"] == "done"]
        assert one["best_val_acc_pct"] == max(done, default=None)
        assert (one["done"], one["done"] + one["stopped"] + one["failed"]) == (len(done), len(candidates))
        # Nothing was interrupted, so each epoch was trained once.
        assert one["epochs"] == sum(candidate["metrics"]["epochs"] for candidate in candidates)
        assert one["wall_s"] == max(candidate["finished_s"] for candidate in candidates) > 0.06 * 60
        assert one["stopped"] == 0 or one["scheduler"] == "asha"
        assert report["status"].startswith("search ended early: search.max_hours=")


def test_a_result_waits_for_the_disk_a_few_times_and_not_once_for_each_metric(tmp_path, monkeypatch):
    experiment = parse_experiment(short())
    study = begin(tmp_path / "run", experiment).study
    trial, waits, really = study.next_trial(), [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: waits.append(really(file)))
    metrics = {"val_acc_pct": 90.0, **{f"m{index}": float(index) for index in range(20)}}
    study.finish(trial.number, Evaluated("done", metrics, None, 1.0, curve={"1": 80.0, "2": 90.0}))
    assert 2 <= len(waits) <= 4  # the result, the state of the trial, the controller
    monkeypatch.undo()
    again = begin(tmp_path / "run", experiment).study.candidates[0]
    assert (again.metrics, again.curve) == (metrics, {"1": 80.0, "2": 90.0})


def searched(scheduler, seed, best):
    return Searched(scheduler, seed, "", best, 3, 4, 0, 20, 61.0, 90.0)


def test_a_gain_is_the_paired_difference_with_its_standard_error():
    best = {("none", 0): 90.0, ("asha", 0): 92.0, ("asha", 1): 95.0, ("none", 1): 91.0, ("none", 2): 93.0}
    gains = SchedulerGain(
        1.0,
        ("none", "asha"),
        (0, 1, 2),
        (*(searched(*key, value) for key, value in best.items()), searched("asha", 2, None)),
    )
    gain = gains.to_json()["schedulers"]["asha"]["gain_pct"]
    # By hand: differences 2 and 4, standard deviation sqrt(2), over sqrt(2); the third seed has no pair.
    assert (gain["mean"], gain["n"]) == (3.0, 2)
    assert gain["standard_error"] == pytest.approx(1.0)
    assert gains.to_json()["schedulers"]["none"]["gain_pct"] is None
    assert gains.to_json()["schedulers"]["asha"]["candidates"] == {"mean": 7.0, "std": 0.0, "n": 3}


def test_the_options_of_a_scheduler_are_those_of_the_file():
    settings = short(executor={"name": "ray", "workers": 2}, scheduler={"name": "asha", "grace_epochs": 3})
    experiment = parse_experiment(settings)
    assert timed(experiment, "none", 4, 6).scheduler is None
    assert timed(experiment, "asha", 4, 6).scheduler.grace_epochs == 3
    assert timed(experiment, "hyperband", 4, 6).scheduler.name == "hyperband"
    timed_experiment = timed(experiment, "median_stopping", 4, 6)
    assert (timed_experiment.seed, timed_experiment.search.max_hours, timed_experiment.survivors) == (4, 0.1, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["engine", "latency.yaml"], "needs latency, which has no part in what is compared"),
        (["engine", "mine.yaml", "--run", "."], "is there already; give a new folder with --run"),
        (["schedulers", "mine.yaml", "--schedulers", "none,ahsa"], "Did you mean 'asha'?"),
        (["schedulers", "mine.yaml", "--schedulers", "none,none"], "give each name once"),
        (["schedulers", "mine.yaml"], "executor inline has no schedulers"),
    ],
)
def test_mistakes_cost_one_sentence(benchmark, tmp_path, words, message):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(short()))
    latency = [{"metric": "val_acc_pct", "goal": "max"}, {"metric": "latency_ms", "goal": "min"}]
    (tmp_path / "latency.yaml").write_text(yaml.safe_dump(short(objectives=latency)))
    code, _, err = benchmark(*words)
    assert (code, "Traceback" in err) == (2, False), err
    assert message in err


def test_cheap_candidates_are_counted_and_opened_again(benchmark):
    """One small cell of each of two ways; speeds are what the command is for and not looked at."""
    words = (
        "--spaces",
        "nasbench201",
        "--controllers",
        "nsga2",
        "--ways",
        "inline,optuna_memory",
        "--candidates",
        "50,60",
    )
    code, out, err = benchmark("engine", "--evaluator", "constant", *words, "--json")
    assert code == 0, err
    cells = json.loads(out)["cells"]
    assert [(cell["cell"]["way"], cell["done"]) for cell in cells] == [
        ("inline", 50),
        ("optuna_memory", 50),
        ("inline", 60),
        ("optuna_memory", 60),
    ]
    ours, theirs = cells[0], cells[1]
    assert ours["open_s"] > 0 and ours["disk_mb"] > 0 and theirs["open_s"] is None
    assert (ours["cell"]["controller"], theirs["cell"]["controller"]) == ("nsga2", "random")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--evaluator", "constant", "--spaces", "moon"), "space of this benchmark 'moon'"),
        (("--evaluator", "moon"), "evaluator of this benchmark 'moon'"),
        (("--candidates", "5,many"), "'many' is no number from 1"),
        (("--candidates", "5,6"), "need --evaluator constant"),
    ],
)
def test_what_the_engine_benchmark_does_not_know_is_named(benchmark, words, sentence):
    code, _, err = benchmark("engine", *words)
    assert code == 2 and sentence in " ".join(err.replace("│", " ").split())
