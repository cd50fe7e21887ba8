"""No reward, goal or exponent prefers what is worse, and a metric of zero is a number like any other."""

import math

import pytest

from nasbench.evaluators.latency import unsure
from nasbench.experiment.loading import parse_experiment
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import WeightedProduct, scores
from nasbench_registry import UserError

SMALL = {"name": "r", "space": "mobile", "controller": "random"}


def weighted(target, exponent=-0.07):
    return {"name": "weighted_product", "target": target, "exponent": exponent}


@pytest.mark.parametrize("exponent", [-0.07, -1.0, -10.0, (0, -1), (-0.07, -1)])
@pytest.mark.parametrize(("metric", "goal"), [("throughput_per_s", "max"), ("latency_ms", "min"), ("mine", "max")])
def test_more_of_what_is_better_is_never_worth_less(exponent, metric, goal):
    objectives = (Objective(metric="val_acc_pct", goal="max"), Objective(metric=metric, goal=goal))
    reward = WeightedProduct(**weighted({metric: 100.0}, exponent))
    worst_first = [0.0, 1.0, 50.0, 100.0, 200.0, 1e9][:: 1 if goal == "max" else -1]
    for quality in (80.0, 0.0, -0.5):  # some measures of quality may be below zero
        values = [scores(objectives, reward, {"val_acc_pct": quality, metric: value})[0] for value in worst_first]
        assert values == sorted(values) and all(map(math.isfinite, values))
        assert quality == 0 or values[0] < values[-1]


@pytest.mark.parametrize("exponent", [0.07, [0, 1], [0.1, -1], -1000])
def test_an_exponent_that_rewards_what_is_worse_is_refused(exponent):
    with pytest.raises(UserError, match="is not from -10 to 0; an exponent above 0 rewards"):
        parse_experiment(SMALL | {"objectives": {"val_acc_pct": "max"}, "reward": weighted({"macs": 1e6}, exponent)})


@pytest.mark.parametrize(
    ("metric", "goal"),
    [
        ("latency_ms", "max"),
        ("energy_mj", "max"),
        ("val_loss", "max"),
        ("val_acc_pct", "min"),
        ("throughput_per_s", "min"),
    ],
)
def test_a_goal_that_asks_for_what_is_worst_is_refused(metric, goal):
    better = "min" if goal == "max" else "max"
    with pytest.raises(UserError, match=f"{metric} with goal '{goal}' asks for what is worst .* write goal: {better}"):
        parse_experiment(SMALL | {"objectives": [{"metric": metric, "goal": goal}]})


def test_large_networks_may_be_asked_for_and_the_users_own_metrics_have_any_goal():
    parse_experiment(SMALL | {"objectives": {"params": "max", "my_error": "min"}})


def test_a_limit_of_no_throughput_at_all_makes_no_prediction_unsure():
    objectives = (Objective(metric="throughput_per_s", goal="max", limit=0.0),)
    assert not unsure(1.0, 0.01, 1, objectives, 25.0)
