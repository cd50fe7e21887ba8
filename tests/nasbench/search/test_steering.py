"""Where a search begins, and when it is good enough: start_with and stop_at."""

import json

import pytest
import yaml
from lunch_support import lunch_of, write_lunch

SALMON = "filling=salmon,price=2,sauce=true"
BEAN = "filling=bean,price=4,sauce=false"


@pytest.fixture
def search(nasbench, user_folder):
    """Search for lunch: (exit code, report, standard error)."""
    write_lunch(user_folder)

    def call(*words, run="run", **changes):
        (user_folder / "lunch.yaml").write_text(yaml.safe_dump(lunch_of(**changes), sort_keys=False))
        code, out, err = nasbench("search", user_folder / "lunch.yaml", "--run", run, "--json", *words)
        return code, json.loads(out) if out else None, err

    return call


def architectures(report):
    return [candidate["architecture"] for candidate in report["candidates"]]


@pytest.mark.parametrize("controller", ["random", "regularized_evolution", "nsga2", "optuna_tpe"])
def test_given_architectures_are_evaluated_first_and_the_controller_goes_on(search, controller):
    """The controller hears of them like of its own, and what it proposes is evaluated as well, nothing twice."""
    code, report, err = search(controller=controller, start_with=[SALMON, BEAN, SALMON])
    assert code == 0, err
    assert architectures(report)[:2] == [SALMON, BEAN], "in their order, each once"
    assert len(set(architectures(report))) == len(architectures(report)) >= 10
    assert sum(candidate["status"] == "done" for candidate in report["candidates"]) == 10


def test_they_are_not_evaluated_again_by_a_resumed_run(search, nasbench):
    code, first, err = search(start_with=[SALMON, BEAN], search={"candidates": 1})
    assert code == 0, err
    assert architectures(first) == [SALMON]
    code, out, err = nasbench("resume", "run", "-o", "search.candidates=4", "--json")
    assert code == 0, err
    assert architectures(json.loads(out))[:2] == [SALMON, BEAN]
    assert architectures(json.loads(out)).count(SALMON) == 1


def test_the_best_of_another_run_are_evaluated_first(search):
    code, first, err = search(run="first")
    assert code == 0, err
    done = [candidate for candidate in first["candidates"] if candidate["status"] == "done"]
    best = sorted(done, key=lambda candidate: (-candidate["scores"][0], candidate["id"]))[:3]
    code, second, err = search(run="second", start_with={"run": "first", "best": 3}, seed=7)
    assert code == 0, err
    assert architectures(second)[:3] == [candidate["architecture"] for candidate in best]
    assert second["candidates"][0]["scores"] == best[0]["scores"], "evaluated again, by this search's own evaluator"


@pytest.mark.parametrize(
    ("start_with", "words"),
    [
        ([SALMON, "filling=herring,price=2,sauce=true"], ["herring", "salmon"]),
        ([SALMON, "dessert=cake"], ["dessert"]),
        ({"run": "nowhere"}, ["nowhere is no run folder"]),
        ({"run": "other", "best": 2}, ["start_with names other", "not of space 'lunch'"]),
        ({"run": "empty"}, ["start_with names empty", "no candidate that is done"]),
        ({"run": "other", "first": 2}, ["first"]),
        ({"run": "other", "best": 0}, ["best", "0"]),
        ({"run": "other", "proxies": ["params"]}, ["start_with", "a run, or proxies, and not both"]),
        ({"best": 3}, ["start_with", "a run, or proxies, and not both"]),
    ],
)
def test_what_cannot_be_begun_with_is_refused_before_the_search(search, nasbench, write, start_with, words):
    if isinstance(start_with, dict) and start_with.get("run") == "other":
        assert nasbench("search", write(search={"candidates": 1}), "--run", "other")[0] == 0
    if isinstance(start_with, dict) and start_with.get("run") == "empty":
        assert search(run="empty", evaluator="lunch:no_dict", search={"candidates": 1, "max_failures": 0})[0] == 1
    code, report, err = search(start_with=start_with)
    assert (code, report) == (2, None)
    (line,) = err.splitlines()
    assert all(word in line for word in words), line


def test_a_joint_search_begins_with_an_architecture_and_its_recipe(nasbench, write, small):
    from nasbench.experiment.build import prepare

    changes = {
        "recipe": [{"prune": {"ratio": {"choice": [0, 0.5]}}}, {"compile": {"backend": "onnxruntime"}}],
        "device": {"runtime": "onnxruntime", "latency": "measured"},
        "objectives": {"val_acc_pct": "max"},
        "reward": {"name": "scalar"},
        "controller": "random",
        "search": {"candidates": 1},
    }
    space = prepare(small(**changes)).space
    wanted = space.format(space.architecture([len(decision.options) - 1 for decision in space.decisions]))
    code, out, err = nasbench("search", write(**changes, start_with=[wanted]), "--run", "run", "--json")
    assert code == 0, err
    (candidate,) = json.loads(out)["candidates"]
    assert candidate["architecture"] == wanted and {"prune": {"ratio": 0.5}} in candidate["recipe"]


def test_the_best_of_a_sample_by_zero_cost_proxies_are_evaluated_first(nasbench, write, small):
    from nasbench.evaluators.proxies.warm_start import best_by_proxies
    from nasbench.experiment.build import prepare

    start_with = {"proxies": ["params"], "sample": 8, "best": 2, "images": 4}
    prepared = prepare(small())
    expected = best_by_proxies(prepared.space, prepared.problem, ["params"], sample=8, best=2, images=4)
    expected_notations = [prepared.space.format(arch) for arch in expected]
    changes = {"search": {"candidates": 1}, "survivors": 0, "start_with": start_with}
    code, out, err = nasbench("search", write(**changes), "--run", "run", "--json")
    assert code == 0, err
    assert architectures(json.loads(out)) == expected_notations[:1]
    code, out, err = nasbench("resume", "run", "-o", "search.candidates=2", "--json")
    assert code == 0, err
    assert architectures(json.loads(out)) == expected_notations


@pytest.mark.parametrize(
    ("start_with", "words"),
    [
        ({"proxies": ["paramz"]}, ["paramz", "params"]),
        ({"proxies": []}, ["proxies"]),
        ({"proxies": ["params"], "sample": 3, "best": 4}, ["best is 4 and sample 3"]),
    ],
)
def test_proxies_that_cannot_be_begun_with_are_refused_before_the_search(nasbench, write, start_with, words):
    code, out, err = nasbench("search", write(start_with=start_with), "--run", "run", "--json")
    assert (code, out) == (2, "")
    assert all(word in err for word in words), err


def test_proxies_without_data_are_refused(search):
    code, report, err = search(start_with={"proxies": ["params"]})
    assert (code, report) == (2, None)
    assert "add the section data" in err


@pytest.mark.parametrize(
    ("stop_at", "reached"),
    [
        ({"taste": 10.05}, lambda metrics: metrics["taste"] >= 10.05),
        ({"price_eur": 5.0}, lambda metrics: metrics["price_eur"] <= 5.0),  # its objective has goal min
        (
            {"taste": 4.5, "price_eur": 7.0},
            lambda metrics: metrics["taste"] >= 4.5 and metrics["price_eur"] <= 7.0,
        ),
    ],
)
def test_a_candidate_that_is_good_enough_ends_the_search(search, stop_at, reached):
    code, report, err = search(stop_at=stop_at, search={"candidates": 24})
    assert code == 0, err
    *before, last = report["candidates"]
    assert reached(last["metrics"]) and last["status"] == "done"
    assert not any(reached(candidate["metrics"]) for candidate in before if candidate["status"] == "done")
    words = ", ".join(f"{metric} {last['metrics'][metric]:.4g}" for metric in stop_at)
    assert report["status"] == f"search ended early: candidate {last['id']} reached stop_at: {words}"


def test_who_breaks_a_limit_reaches_nothing(search):
    code, report, err = search(stop_at={"taste": 10.35}, search={"candidates": 24})
    assert code == 0, err
    tasty = [candidate for candidate in report["candidates"] if candidate["metrics"]["taste"] >= 10.35]
    assert tasty and {candidate["status"] for candidate in tasty} == {"infeasible"}
    assert "stop_at" not in report["status"]


def test_a_search_that_reached_it_stays_at_its_end_when_it_is_resumed(search, nasbench):
    code, report, err = search(stop_at={"taste": 10.05}, start_with=[SALMON], search={"candidates": 24})
    assert code == 0, err
    assert architectures(report) == [SALMON]
    code, out, err = nasbench("resume", "run", "--json")
    assert code == 0, err
    again = json.loads(out)
    assert again["candidates"] == report["candidates"] and again["status"] == report["status"]


def test_a_metric_of_ours_has_its_own_direction(nasbench, write):
    """They are no objectives here, and smaller is better all the same; memory is measured for stop_at alone."""
    changes = {"objectives": {"val_acc_pct": "max"}, "reward": {"name": "scalar"}, "controller": "random"}
    stop_at = {"macs": 1e12, "peak_memory_bytes": 1e12}
    code, out, err = nasbench("search", write(**changes, stop_at=stop_at), "--run", "run", "--json")
    assert code == 0, err
    assert len(json.loads(out)["candidates"]) == 1
    code, out, err = nasbench("search", write(**changes, stop_at={"marcs": 1.0}), "--run", "other", "--json")
    assert (code, out) == (2, "") and "'macs'" in err


def test_objectives_in_short_form_are_the_long_ones(search, small):
    short = {"taste": "max", "price_eur": {"goal": "min", "limit": 11.0}}
    long = [
        {"metric": "taste", "goal": "max"},
        {"metric": "price_eur", "goal": "min", "limit": 11.0},
    ]
    from_short, from_long = (search(run=name, objectives=form) for name, form in (("short", short), ("long", long)))
    assert from_short[0] == from_long[0] == 0
    assert from_short[1]["experiment"] == from_long[1]["experiment"]
    assert small(objectives={"val_acc_pct": "max", "macs": "min"}) == small()
