"""What scores candidates is the user's own: a function with metrics of its own, mistakes that cost one candidate."""

import json
import math
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from lunch_support import FRONT, OBJECTIVES, lunch_of, write_lunch

from nasbench.evaluators.evaluate import evaluate
from nasbench.evaluators.function import FunctionEvaluator
from nasbench.evaluators.trial import Trial
from search_spaces import get_space


@pytest.fixture
def search(nasbench, user_folder):
    """Search for lunch in the folder `run`: (exit code, report or standard output, standard error)."""
    write_lunch(user_folder)
    (user_folder / "stale.py").write_text("import lunch\n\nraise ValueError('gone off')\n")
    (user_folder / "half.py").write_text("def evaluate(candidate:\n")

    def call(*words, run="run", **changes):
        (user_folder / "lunch.yaml").write_text(yaml.safe_dump(lunch_of(**changes), sort_keys=False))
        code, out, err = nasbench("search", user_folder / "lunch.yaml", "--run", run, "--json", *words)
        return code, json.loads(out) if out else None, err

    return call


def test_a_function_is_an_evaluator_and_its_metrics_are_objectives_and_limits(search, nasbench, user_folder):
    """Every one of the 24 lunches: the front and who is too expensive follow from the function alone."""
    code, report, err = search(search={"candidates": 24, "max_failures": 0})
    assert code == 0, err
    assert report["status"].startswith("search ended early: controller random")  # there are no more than 24
    assert {candidate["status"] for candidate in report["candidates"]} == {"done", "infeasible"}
    for candidate in report["candidates"]:
        price = candidate["metrics"]["price_eur"]
        assert (candidate["status"] == "infeasible") == (price > OBJECTIVES["price_eur"]["limit"])
        if candidate["status"] == "infeasible":
            assert candidate["error"].startswith("price_eur") and candidate["ending"] == "after evaluation"
            assert candidate["violation"] == pytest.approx((price - 11) / 11) and candidate["scores"] is None
    assert len({candidate["architecture"] for candidate in report["candidates"]}) == 24
    names = {candidate["id"]: candidate["architecture"] for candidate in report["candidates"]}
    assert {names[number] for number in report["front"]} == FRONT
    assert [row["stage"] for row in report["early_ends"]] == ["after evaluation"]
    # What people and programs read of it.
    code, out, err = nasbench("status", "run", "--json")
    state = json.loads(out)
    assert (code, state["front"], state["outcomes"]) == (
        0,
        report["front"],
        {row["kind"]: row["count"] for row in report["outcomes"] if row["count"]},
    )
    page = (user_folder.parent / "run/report.html").read_text()
    assert "price_eur" in page and "taste" in page


def test_the_table_has_a_column_for_each_decision_and_metric_and_marks_the_front(search, user_folder):
    """A decision and a metric may have one name; a candidate that failed has its decisions all the same."""
    code, report, err = search(evaluator="lunch:every_other", search={"candidates": 12, "max_failures": 9})
    assert code == 0, err
    table = pd.read_csv("run/trials.csv").set_index("id")
    assert list(table.index) == list(range(len(report["candidates"])))
    space = get_space("lunch:Lunch")
    for candidate in report["candidates"]:
        row = table.loc[candidate["id"]]
        choices = space.choices(space.parse(candidate["architecture"]))
        assert (row["filling"], row["price"], row["sauce"]) == tuple(choices.values())
        for name in ("taste", "price_eur"):
            known = candidate["metrics"].get(name)
            assert math.isnan(row[name]) if known is None else row[name] == known
    assert table.index[table["on_front"]].tolist() == report["front"]
    assert set(table["status"]) == {candidate["status"] for candidate in report["candidates"]}
    # Where the metric is called like the decision, the decision makes way, in all rows.
    code, report, err = search(
        run="same", evaluator="lunch:same_name", objectives={"price": "min"}, reward={"name": "scalar"}
    )
    assert code == 0, err
    table = pd.read_csv("same/trials.csv").set_index("id")
    assert table.loc[3, "status"] == "failed" and table["choice_price"].notna().all()
    done = table[table["status"] == "done"]
    assert (done["price"] == 100 * done["choice_price"]).all()


def test_what_goes_wrong_in_the_function_costs_one_candidate_and_a_sentence(search):
    code, report, err = search(evaluator="lunch:every_other", search={"candidates": 8, "max_failures": 6})
    assert (code, report["status"]) == (0, "complete"), err
    wrong = {
        candidate["id"]: (candidate["status"], candidate["error"])
        for candidate in report["candidates"]
        if candidate["status"] not in ("done", "infeasible")
    }
    assert wrong == {
        1: ("failed", "the evaluator returned None; return a dict of numbers, such as {'f1': 0.9}."),
        3: ("failed", "the evaluator gave 'taste': 'good'; give a number by the name of the metric."),
        5: ("failed", "the evaluator gives no price_eur"),
        7: ("diverged", "Diverged: taste is not a finite number"),
        9: ("failed", "KeyError: 'salmon'"),
        11: ("failed", "SystemExit: no lunch today"),
    }
    assert all(candidate["scores"] is None for candidate in report["candidates"] if candidate["id"] in wrong)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"evaluator": "lunch:no_dict"}, "the evaluator returned 2; return a dict of numbers"),
        ({"evaluator": "lunch:no_price"}, "the evaluator gives no price_eur"),
        ({"objectives": {"taste": "max", "prise_eur": "min"}}, "the evaluator gives no prise_eur"),
        ({"reward": {"name": "weighted_product", "target": {"calories": 300}}}, "the evaluator gives no calories"),
        ({"stop_at": {"prise_eur": 3}}, "the evaluator gives no prise_eur"),
    ],
    ids=["no dict", "metric left out", "misspelt objective", "target of the reward", "stop_at"],
)
def test_a_search_in_which_nothing_is_done_says_why_and_fails(search, changes, reason):
    code, report, err = search(search={"candidates": 6, "max_failures": 2}, **changes)
    assert code == 1
    assert report["status"] == "search ended early: 3 candidates failed, more than search.max_failures=2"
    assert f"last failure: candidate 2 failed: {reason}" in err and "Traceback" not in err
    assert report["front"] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluator": "lunch:evalaute"}, ["evalaute", "evaluate"]),
        ({"evaluator": "lnch:evaluate"}, ["there is no module 'lnch'"]),
        ({"evaluator": ":evaluate"}, ["':evaluate' names no module", "mine:evaluate"]),
        ({"evaluator": ".lunch:evaluate"}, ["'.lunch:evaluate' names no module"]),
        ({"evaluator": "stale:evaluate"}, ["importing 'stale' fails", "ValueError: gone off, in line 3 of stale.py"]),
        ({"evaluator": "half:evaluate"}, ["importing 'half' fails", "SyntaxError", "half.py, line 1"]),
        ({"space": "half:Lunch"}, ["importing 'half' fails"]),
        ({"evaluator": "lunch:FILLINGS"}, ["lunch:FILLINGS", "name a function of a candidate"]),
        ({"evaluator": "lunch:Lunch"}, ["lunch:Lunch", "not derived from"]),
        ({"evaluator": {"name": "lunch:evaluate", "spices": 2}}, ["is a function, which takes no options", "spices"]),
        ({"evaluator": "lunch:Spiced"}, ["lunch:Spiced", "needs the option 'spices'"]),
        ({"evaluator": "lunch:Unfinished"}, ["lunch:Unfinished", "does not define __call__"]),
        ({"evaluator": {"name": "lunch:Spiced", "spice": 2}}, ["spice", "spices"]),
        ({"evaluator": {"name": "lunch:Spiced", "spices": 2}}, ["unknown metric 'price_eur'", "taste"]),
        ({"survivors": 2}, ["survivors is 2", "trains no network"]),
        ({"objectives": {"taste": "most"}}, ["taste", "'most'", "'max', 'min'"]),
        ({"objectives": {"taste": {"gaol": "max"}}}, ["gaol", "goal"]),
        ({"objectives": {}}, ["objectives", "must not be empty"]),
    ],
)
def test_a_mistake_in_the_experiment_is_refused_before_anything_is_evaluated(search, changes, words):
    code, report, err = search(**changes)
    assert (code, report) == (2, None)
    (line,) = err.splitlines()
    assert all(word in line for word in words), line


def test_an_evaluator_of_the_users_own_says_what_it_gives_and_takes_options(search):
    objectives = {"taste": "max", "spices": "min"}
    code, report, err = search(evaluator={"name": "lunch:Spiced", "spices": 2}, objectives=objectives)
    assert code == 0, err
    assert {candidate["metrics"]["spices"] for candidate in report["candidates"]} == {2}


def test_its_metrics_are_part_of_a_reward(search):
    changes = {"reward": {"name": "weighted_product", "target": {"price_eur": 5.0}, "exponent": -0.5}}
    code, report, err = search(**changes)
    assert code == 0, err
    done = [candidate for candidate in report["candidates"] if candidate["status"] == "done"]
    for candidate in done:
        metrics = candidate["metrics"]
        assert candidate["scores"] == pytest.approx([metrics["taste"] * (metrics["price_eur"] / 5.0) ** -0.5])


def test_runs_are_read_and_compared_without_the_users_module(search, nasbench, user_folder):
    """Its file is deleted when the searches are over; what they found is in their folders."""
    reports = {}
    for seed in (0, 1):
        code, reports[seed], err = search("--seed", str(seed), run=f"run{seed}")
        assert code == 0, err
    (user_folder / "lunch.py").unlink()
    shutil.rmtree(user_folder / "__pycache__", ignore_errors=True)
    sys.modules.pop("lunch")
    code, out, err = nasbench("status", "run0", "--json")
    assert code == 0, err
    assert json.loads(out)["front"] == reports[0]["front"]
    before = pd.read_csv("run0/trials.csv")
    code, _, err = nasbench("report", "run0", "--json")
    assert code == 0, err
    pd.testing.assert_frame_equal(pd.read_csv("run0/trials.csv"), before)
    again = json.loads((user_folder.parent / "run0/report.json").read_text())
    for key in ("candidates", "front", "hypervolume", "outcomes", "importance"):
        assert again[key] == reports[0][key], key
    code, out, err = nasbench("compare", "run0", "run1", "--json")
    assert code == 0, err
    (group,) = json.loads(out)["groups"]
    assert [len(run["front"]) for run in group["runs"]] == [len(reports[seed]["front"]) for seed in (0, 1)]
    code, _, err = nasbench("resume", "run0", "-o", "search.candidates=12")
    assert code == 2 and "there is no module 'lunch'" in err


def test_a_search_that_was_complete_goes_on(search, nasbench):
    code, first, err = search()
    assert code == 0, err
    code, out, err = nasbench("resume", "run", "-o", "search.candidates=14", "--json")
    assert code == 0, err
    more = json.loads(out)
    assert more["candidates"][: len(first["candidates"])] == first["candidates"]
    assert sum(candidate["status"] == "done" for candidate in more["candidates"]) == 14


@pytest.mark.slow
def test_under_ray_a_scheduler_stops_by_the_users_own_metric(search):
    """Candidates report what the search needs after each epoch; those that ASHA stops are not on the front."""
    code, report, err = search(
        evaluator="lunch:by_epochs",
        objectives={"taste": "max"},
        reward={"name": "scalar"},
        training={"epochs": 9},
        search={"candidates": 20},
        executor={"name": "ray", "workers": 2},
        scheduler="asha",
    )
    assert code == 0, err
    stopped = [candidate for candidate in report["candidates"] if candidate["status"] == "stopped"]
    done = [candidate for candidate in report["candidates"] if candidate["status"] == "done"]
    assert stopped and done and len(stopped) + len(done) == 20
    for candidate in (*stopped, *done):
        epochs = candidate["metrics"]["epochs"]
        assert (epochs == 9) == (candidate["status"] == "done")
        assert list(candidate["curve"]) == [str(epoch) for epoch in range(1, int(epochs) + 1)]
        assert candidate["curve"][str(int(epochs))] == pytest.approx(candidate["metrics"]["taste"], abs=1e-3)
    assert set(report["front"]) <= {candidate["id"] for candidate in done}
    best = max(done, key=lambda candidate: candidate["metrics"]["taste"])
    assert all(candidate["metrics"]["taste"] < best["metrics"]["taste"] for candidate in stopped)


@pytest.mark.slow
def test_under_ray_mistakes_of_the_function_are_what_they_are_inline(search):
    changes = {"evaluator": "lunch:every_other", "search": {"candidates": 8, "max_failures": 6}}
    inline, ray = (search(run=name, executor={"name": name}, **changes)[1] for name in ("inline", "ray"))
    for key in ("architecture", "status", "error", "metrics", "scores"):
        assert [candidate[key] for candidate in ray["candidates"]] == [
            candidate[key] for candidate in inline["candidates"]
        ], key


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (np.float32(0.5), 0.5),
        (np.array([0.5]), 0.5),
        (np.array(2), 2.0),
        (torch.tensor(0.5), 0.5),
        (torch.tensor([[0.5]], requires_grad=True), 0.5),
        (True, 1.0),
        (np.array([1.0, 2.0]), None),
        (torch.zeros(3), None),
        ("0.5", None),
        (0.5 + 1j, None),
        (None, None),
    ],
)
def test_a_metric_is_one_number_of_any_library(value, number):
    space = get_space("nasbench201")
    trial = Trial(0, space.sample(np.random.default_rng(0)), None, 0)
    outcome = evaluate(FunctionEvaluator(space, lambda candidate: {"score": value}), trial)
    if number is None:
        assert outcome.status == "failed" and outcome.error.startswith("the evaluator gave 'score': ")
    else:
        assert outcome.metrics == {"score": number} and type(outcome.metrics["score"]) is float


def test_a_candidate_tells_all_that_an_evaluation_needs():
    space = get_space("mobile", widths=[8, 16], layers=1)
    trial = Trial(3, space.sample(np.random.default_rng(0)), None, 7, full_epochs=5)
    attributes = {}

    def look(candidate):
        attributes.update(
            {name: getattr(candidate, name) for name in ("arch", "choices", "architecture", "epochs", "seed", "number")}
        )
        return {"score": 1.0}

    evaluate(FunctionEvaluator(space, look), trial)
    assert attributes == {
        "arch": trial.arch,
        "choices": space.choices(trial.arch),
        "architecture": space.format(trial.arch),
        "epochs": 5,
        "seed": 7,
        "number": 3,
    }
