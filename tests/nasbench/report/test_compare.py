"""Hypervolume against chance, and runs side by side."""

import json
import time

import numpy as np
import pytest
from scipy import stats
from tests_support import begin

from nasbench.evaluators.trial import Evaluated
from nasbench.objectives.hypervolume import Scale, growth, hypervolume
from nasbench.objectives.objective import Objective
from nasbench.objectives.statistics import ratio_interval
from nasbench.report.baseline import compare_with_baseline
from nasbench.report.comparison import compare_runs, read_run
from nasbench.search.settings import RunSettings
from nasbench_registry import UserError

ACCURACY = Objective(metric="val_acc_pct", goal="max")
MACS = Objective(metric="macs", goal="min")


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_hypervolume_is_the_share_of_random_points_that_are_dominated(objectives):
    rng = np.random.default_rng(objectives)
    points, dice = rng.random((12, objectives)), rng.random((200_000, objectives))
    share = (dice[:, None] <= points[None]).all(axis=2).any(axis=1).mean()
    assert hypervolume(points) == pytest.approx(share, abs=0.005)


def test_hypervolume_by_hand():
    assert hypervolume(np.array([[0.5, 0.5]])) == 0.25
    assert hypervolume(np.array([[1.0, 0.25], [0.5, 0.5], [0.25, 1.0], [0.2, 0.2]])) == pytest.approx(
        0.25 + 0.125 + 0.125
    )
    assert hypervolume(np.array([[0.0, 1.0], [-1.0, 2.0]])) == 0.0
    assert hypervolume(np.zeros((0, 3))) == 0.0
    assert hypervolume(np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])) == 0.125


def test_growth_is_the_hypervolume_of_each_beginning():
    points = np.random.default_rng(0).random((20, 3))
    assert growth(points) == pytest.approx([hypervolume(points[: count + 1]) for count in range(20)])


def test_costs_count_by_their_logarithms():
    candidates = [
        {"val_acc_pct": 50.0, "macs": 1e6},
        {"val_acc_pct": 90.0, "macs": 1e4},
        {"val_acc_pct": 70.0, "macs": 1e5},
    ]
    scale = Scale.of([ACCURACY, MACS], candidates)
    assert scale.reference == {"val_acc_pct": 50.0, "macs": 1e6} and scale.ideal == {"val_acc_pct": 90.0, "macs": 1e4}
    np.testing.assert_allclose(scale.points(candidates), [[0, 0], [1, 1], [0.5, 0.5]], atol=1e-12)
    alike = Scale.of([MACS], [{"macs": 5.0}, {"macs": 5.0}])
    assert alike.points([{"macs": 5.0}]).tolist() == [[1.0]]


def test_the_interval_is_that_of_a_t_test():
    ours, theirs = [0.5, 0.6, 0.55, 0.7, 0.52], [0.4, 0.5, 0.52, 0.6, 0.41]
    ratio, low, high = ratio_interval(ours, theirs, paired=True)
    interval = stats.ttest_rel(np.log(ours), np.log(theirs)).confidence_interval(0.95)
    assert (low, high) == pytest.approx((np.exp(interval.low), np.exp(interval.high)))
    assert ratio == pytest.approx(stats.gmean(ours) / stats.gmean(theirs)) and low < ratio < high
    _, low, high = ratio_interval(ours, theirs[:4], paired=False)
    interval = stats.ttest_ind(np.log(ours), np.log(theirs[:4]), equal_var=False).confidence_interval(0.95)
    assert (low, high) == pytest.approx((np.exp(interval.low), np.exp(interval.high)))
    assert ratio_interval([0.5], [0.25], paired=True) == (2.0, None, None)
    assert ratio_interval([0.5, 0.0], [0.25, 0.2], paired=True) == (None, None, None)


@pytest.fixture
def ran(tmp_path, small):
    """A run whose candidates have these accuracies, macs and seconds."""

    def make(name, outcomes, **changes):
        changes = {"search": {"candidates": 100}} | changes
        experiment = small(reward={"name": "pareto"}, controller={"name": "random"}, **changes)
        begun = begin(tmp_path / name, experiment)
        study = begun.study
        for accuracy, macs, finished in outcomes:
            trial = study.next_trial()
            study._earlier_s, study._started = finished, time.monotonic()
            metrics = {"val_acc_pct": accuracy, "macs": macs}
            status = "done" if accuracy else "failed"
            study.finish(trial.number, Evaluated(status, metrics if accuracy else {}, None, 1.0))
        return begun.folder

    return make


# The last one of each only says how long the run took.
GOOD = [(60.0, 1e5, 1.0), (90.0, 1e5, 2.0), (80.0, 1e4, 3.0), (0, 0, 4.0)]
BAD = [(60.0, 1e5, 1.0), (70.0, 2e5, 2.0), (0, 0, 2.5), (75.0, 5e4, 3.0), (0, 0, 4.0)]


def test_runs_that_differ_in_their_seed_are_one_group(ran):
    runs = [read_run(ran(f"good{seed}", [(a and a + seed, m, t) for a, m, t in GOOD], seed=seed)) for seed in range(3)]
    search = {"search": {"candidates": 101}}
    runs += [
        read_run(ran(f"bad{seed}", [(a and a + seed, m, t) for a, m, t in BAD], seed=seed, **search))
        for seed in range(3)
    ]
    comparison = compare_runs(runs)
    assert json.loads(json.dumps(comparison)) == comparison
    first, second = comparison["groups"]
    assert (first["name"], second["name"]) == ("random", "random #2")
    assert first["hypervolume"]["n"] == second["hypervolume"]["n"] == 3
    assert comparison["scale"]["reference"] == {"val_acc_pct": 60.0, "macs": 2e5}
    assert comparison["common_seconds"] == pytest.approx(4.0, abs=0.1)
    (compared,) = comparison["comparisons"]
    assert compared["paired"] and compared["hypervolume_ratio"] > 1 and compared["low"] > 1
    assert "random was better" in compared["statement"]
    curve = first["over_time"]
    assert curve["mean"] == sorted(curve["mean"]) and curve["seconds"][-1] == comparison["common_seconds"]
    assert curve["mean"][0] == 0 and len(curve["std"]) == len(curve["mean"])
    assert second["runs"][0]["candidates"] == 3 and second["runs"][0]["evaluated"] == 5
    backwards = compare_runs(runs[3:] + runs[:3])["comparisons"][0]
    assert "was worse" in backwards["statement"]


def test_single_runs_are_compared_without_an_interval(ran):
    comparison = compare_runs([read_run(ran("a", GOOD)), read_run(ran("b", BAD, search={"candidates": 101}))])
    assert comparison["comparisons"][0]["low"] is None and "one run each" in comparison["comparisons"][0]["statement"]


def test_what_does_not_compare_is_refused(ran):
    with pytest.raises(UserError, match="nothing to compare"):
        compare_runs([])
    limited = ran(
        "limited",
        GOOD,
        objectives=[{"metric": "val_acc_pct", "goal": "max"}, {"metric": "macs", "goal": "min", "limit": 1e9}],
    )
    with pytest.raises(UserError, match="differ in objectives"):
        compare_runs([read_run(ran("plain", GOOD)), read_run(limited)])
    with pytest.raises(UserError, match="none of the runs"):
        compare_runs([read_run(ran("empty", []))])


def test_the_command_prints_and_draws(ran, nasbench, tmp_path):
    one, two = ran("one", GOOD), ran("two", BAD, search={"candidates": 101})
    code, out, _ = nasbench("compare", one.path, two.path, "--json")
    assert code == 0 and json.loads(out)["comparisons"][0]["of"] == "random"
    code, out, _ = nasbench("compare", one.path, two.path, "--html", tmp_path / "page.html")
    assert code == 0 and "hypervolume" in out
    page = (tmp_path / "page.html").read_text()
    assert "Hypervolume over time" in page and "random #2" in page and "that says nothing of other seeds" in page
    assert nasbench("compare", tmp_path / "nowhere")[0] == 2


def points(rng, count, shift=0.0, factor=1.0):
    accuracies, macs = rng.uniform(50, 80, count) + shift, factor * rng.uniform(1e5, 2e5, count)
    return [(float(a), float(m), float(t)) for t, (a, m) in enumerate(zip(accuracies, macs, strict=True))]


def test_a_controller_is_judged_by_searches_with_its_own_budget(ran):
    """Forty of them, as parts of one longer search; with fewer there is no verdict, and the report says what to ask."""
    rng = np.random.default_rng(0)
    by_chance = points(rng, 400)
    random, ours, worse = (
        read_run(ran(name, outcomes, search={"candidates": 400}))
        for name, outcomes in (
            ("r", by_chance),
            ("b", points(rng, 10, 15, 0.5)),
            ("w", points(rng, 10, -15, 2.0)),
        )
    )
    settings = RunSettings.of({**random.settings.asked, "baseline": {"name": "random", "candidates": 400, "seeds": 1}})
    comparison = compare_with_baseline(ours.all, [random.all], settings)
    assert (comparison["verdict"], comparison["better"], comparison["measure"]) == ("better", True, "hypervolume")
    assert (comparison["searches"], comparison["candidates"]) == (40, 10) and "the controller was better" in comparison[
        "statement"
    ]
    assert comparison["coverage_pct"] == pytest.approx(100 * 39 / 41)
    assert len(comparison["mean"]) == len(comparison["search"]) == len(comparison["count"]) == 10
    assert comparison["mean"] == sorted(comparison["mean"])
    assert all(
        low <= mean <= high
        for low, mean, high in zip(comparison["low"], comparison["mean"], comparison["high"], strict=True)
    )
    assert compare_with_baseline(worse.all, [random.all], settings)["verdict"] == "worse"
    # A search by chance is told apart from chance once in twenty times; not so the middle one of the random searches.
    parts = [by_chance[start : start + 10] for start in range(0, 400, 10)]
    metrics = [[{"val_acc_pct": accuracy, "macs": macs} for accuracy, macs, _ in part] for part in parts]
    scale = Scale.of([ACCURACY, MACS], [candidate for part in metrics for candidate in part])
    middle = parts[np.argsort([hypervolume(scale.points(part)) for part in metrics])[20]]
    none = compare_with_baseline(read_run(ran("s", middle)).all, [random.all], settings)
    assert (none["verdict"], none["better"]) == ("no difference", False) and "not better than chance" in none[
        "statement"
    ]
    few = compare_with_baseline(ours.all, [random.all[:20], random.all[20:35]], settings)
    assert (few["searches"], few["verdict"], few["better"]) == (3, None, None)
    assert "baseline={name: random, candidates: 400}" in few["statement"] and "better" not in few["statement"]
    assert compare_with_baseline([], [random.all], settings) is None
    assert compare_with_baseline(ours.all, [random.all[:9]], settings) is None, "no search has as many candidates"
