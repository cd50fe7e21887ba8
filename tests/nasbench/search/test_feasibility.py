"""Limits that nothing meets are found before a search, and rare regions that meet them are found, too."""

import time

import numpy as np
import pytest
from torch import nn

from nasbench.costs.cost import cost
from nasbench.costs.memory import peak_activation_bytes
from nasbench.devices.device import Device
from nasbench.evaluators.costs import CandidateCosts, paper_costs
from nasbench.evaluators.latency import LatencyEstimator
from nasbench.latency.calibrate import calibrate
from nasbench.objectives.objective import Objective
from nasbench.search import feasibility
from nasbench.search.feasibility import check_feasible, checked_limits
from nasbench_registry import UserError
from search_spaces import Decision, SearchSpace, Task, get_space
from search_spaces.fresh_model import fresh_model

TASK = Task((1, 8, 8), 10)
MOBILE = get_space("mobile", widths=[8, 16], layers=1)
WIDTHS = (8, 12, 16, 24)


class Widths(SearchSpace):
    """Seven layers, each of one of four widths: one network of 4^7 has the narrowest in all of them."""

    name = "widths"
    decisions = tuple(Decision(f"layer{index}", WIDTHS) for index in range(7))

    def build(self, arch, task):
        channels, layers = task.input_shape[0], []
        for width in self.choices(arch).values():
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, task.classes))


class Broken(Widths):
    def build(self, arch, task):
        raise RuntimeError("no such network")


def limited(**limits):
    """Objectives with these limits: metric=(goal, limit), and accuracy with one that is known after training only."""
    objectives = [Objective(metric=name, goal=goal, limit=limit) for name, (goal, limit) in limits.items()]
    return [Objective(metric="val_acc_pct", goal="max", limit=99.99), *objectives]


def costs_of(space, arch):
    return cost(fresh_model(space, arch, TASK, 0), TASK)


def test_without_a_limit_known_before_training_nothing_is_built():
    assert check_feasible(Broken(), TASK, limited(), predictor=None, seed=0) is None
    assert check_feasible(Broken(), TASK, limited(latency_ms=("min", 1e-9)), predictor=None, seed=0) is None
    assert [limit.metric for limit in checked_limits(limited(latency_ms=("min", 1.0)), latency=True)] == ["latency_ms"]


def test_a_usual_search_pays_for_one_network():
    feasible = check_feasible(MOBILE, TASK, limited(macs=("min", 1e9), params=("max", 1)), predictor=None, seed=0)
    assert feasible.looked_at == 1
    assert feasible.costs["macs"] == costs_of(MOBILE, feasible.arch).macs


def test_the_seed_alone_decides_what_is_found():
    limits = limited(macs=("min", 60_000))
    one, two = (check_feasible(MOBILE, TASK, limits, predictor=None, seed=5, budget_s=budget) for budget in (0.0, 8.0))
    assert one == two
    assert one.costs["macs"] <= 60_000


def test_a_region_of_one_network_in_16384_is_found():
    space = Widths()
    narrowest = costs_of(space, space.architecture([0] * 7))
    limits = limited(macs=("min", narrowest.macs))
    sampled = [space.sample(np.random.default_rng(seed)).picks for seed in range(feasibility.SAMPLES)]
    assert (0,) * 7 not in sampled
    feasible = check_feasible(space, TASK, limits, predictor=None, seed=0, budget_s=300)
    assert feasible.arch.picks == (0,) * 7
    assert feasibility.SAMPLES < feasible.looked_at < 300


def test_limits_that_pull_in_two_directions_are_met_together():
    """Few multiply-adds and many parameters: wide layers at the low resolution only."""
    rng = np.random.default_rng(0)
    known = [costs_of(MOBILE, MOBILE.sample(rng)) for _ in range(60)]
    chosen = max(known, key=lambda costs: costs.params / costs.macs)
    limits = limited(macs=("min", chosen.macs), params=("max", chosen.params))
    feasible = check_feasible(MOBILE, TASK, limits, predictor=None, seed=1, budget_s=300)
    assert feasible.costs["macs"] <= chosen.macs and feasible.costs["params"] >= chosen.params


def test_the_error_names_the_limit_the_closest_value_and_what_to_do(monkeypatch):
    space = Widths()
    narrowest = costs_of(space, space.architecture([0] * 7)).params
    monkeypatch.setattr(feasibility, "STEPS", 4)
    with pytest.raises(UserError) as raised:
        check_feasible(space, TASK, limited(params=("min", narrowest - 1)), predictor=None, seed=0, budget_s=0.5)
    text = str(raised.value)
    assert f"params <= {narrowest - 1:,}" in text
    assert "the closest has params " in text and "Loosen the limits" in text
    assert "val_acc_pct" not in text
    assert len(text.splitlines()) == 1


def test_the_error_of_a_small_space_comes_before_the_budget_is_over():
    space = get_space("mobile", widths=[8], layers=1, blocks=["convolution"])
    least = min(
        costs_of(space, space.architecture([0, kernel, width])).params for kernel in (0, 1) for width in range(3)
    )
    started = time.monotonic()
    with pytest.raises(UserError, match=f"among 6 that were drawn .* the closest has params {least:,}[.]"):
        check_feasible(space, TASK, limited(params=("min", 10)), predictor=None, seed=0, budget_s=60)
    assert time.monotonic() - started < 30


def test_a_space_that_cannot_be_built_is_left_to_the_search(monkeypatch):
    monkeypatch.setattr(feasibility, "STEPS", 2)
    assert check_feasible(Broken(), TASK, limited(macs=("min", 1.0)), predictor=None, seed=0, budget_s=0.0) is None


def test_limits_on_predicted_latency_are_checked_with_a_predictor():
    calibration = calibrate(MOBILE, TASK, Device(), samples=10, seed=0)
    predictor = calibration.predictor(MOBILE)
    limit = float(np.median(calibration.latency_ms))
    feasible = check_feasible(MOBILE, TASK, limited(latency_ms=("min", limit)), predictor=predictor, seed=0)
    assert feasible.costs["latency_ms"] <= limit
    with pytest.raises(UserError, match="latency_ms <= 1e-06"):
        check_feasible(MOBILE, TASK, limited(latency_ms=("min", 1e-6)), predictor=predictor, seed=0, budget_s=0.0)


def test_costs_are_those_of_the_parts():
    arch = MOBILE.sample(np.random.default_rng(0))
    model = fresh_model(MOBILE, arch, TASK, 0)
    counted = cost(model, TASK)
    on_paper = {"macs": counted.macs, "params": counted.params, "size_bytes": counted.size_bytes}
    device, latency = Device(), frozenset({"latency_ms"})
    assert CandidateCosts(device, frozenset())(MOBILE, arch, model, TASK) == on_paper
    assert paper_costs(model, TASK, peak=True) == on_paper | {"peak_memory_bytes": peak_activation_bytes(model, TASK)}
    calibration = calibrate(MOBILE, TASK, device, samples=10, seed=0)
    estimator = LatencyEstimator(MOBILE, TASK, device, calibration)
    stored = CandidateCosts(device, latency, estimator, unsure_pct=None)(MOBILE, arch, model, TASK)
    assert stored == paper_costs(model, TASK, calibration.predictor(MOBILE), arch=arch)
    assert stored["throughput_per_s"] == pytest.approx(1000 / stored["latency_ms"])
    measured = CandidateCosts(device, latency)(MOBILE, arch, model, TASK)
    assert set(measured) == {*on_paper, "latency_ms", "throughput_per_s"}
