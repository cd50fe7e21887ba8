"""From metrics to scores: the only place where a sign is flipped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from controllers import dominates
from nasbench.experiment.experiment import Experiment, ObjectiveConfig, Pareto, WeightedProduct
from nasbench.objectives.metrics import LARGER_IS_BETTER, METRICS, Metrics


def scores(experiment: Experiment, metrics: Metrics) -> tuple[float, ...]:
    """The scores that a controller is told, larger is better.

    `weighted_product` is the metric to maximise times (metric / target) ** exponent for each target, as in MnasNet
    (Tan et al. 2019, arXiv 1807.11626); `pareto` gives one score for each objective; `scalar` the first alone.
    """
    objectives = objective_scores(experiment.objectives, metrics)
    reward = experiment.reward
    if isinstance(reward, Pareto):
        return objectives
    if isinstance(reward, WeightedProduct):
        main = next(objective.metric for objective in experiment.objectives if objective.goal == "max")
        factors = [_factor(reward, metric, metrics[metric]) for metric in reward.target]
        return (metrics[main] * math.prod(factors),)
    return objectives[:1]


def _factor(reward: WeightedProduct, metric: str, value: float) -> float:
    ratio = value / reward.target[metric]
    meets = ratio >= 1 if metric in LARGER_IS_BETTER else ratio <= 1
    alpha, beta = reward.exponent if isinstance(reward.exponent, tuple) else (reward.exponent, reward.exponent)
    return float(ratio ** (alpha if meets else beta))


def objective_scores(objectives: Sequence[ObjectiveConfig], metrics: Metrics) -> tuple[float, ...]:
    """One score for each objective, larger is better."""
    return tuple(metrics[o.metric] if o.goal == "max" else -metrics[o.metric] for o in objectives)


def broken_limit(objectives: Sequence[ObjectiveConfig], metrics: Metrics) -> str | None:
    """The hard limit that these metrics break, in words; None if none. A metric that is not known yet breaks none."""
    for objective in objectives:
        value, limit = metrics.get(objective.metric), objective.limit
        if value is None or limit is None:
            continue
        if (value > limit) if objective.goal == "min" else (value < limit):
            side = "over" if objective.goal == "min" else "under"
            return f"{objective.metric} {value:.4g} is {side} the limit {limit:.4g} ({METRICS[objective.metric]})"
    return None


def violation(objectives: Sequence[ObjectiveConfig], metrics: Metrics) -> float:
    """How far these metrics are beyond the hard limits: the sum of the excesses, each as a share of its limit.

    A metric that is not known yet adds nothing.
    """
    total = 0.0
    for objective in objectives:
        value, limit = metrics.get(objective.metric), objective.limit
        if value is not None and limit is not None:
            excess = value - limit if objective.goal == "min" else limit - value
            total += max(0.0, excess) / (abs(limit) or 1.0)
    return total


def pareto_front(objectives: Sequence[ObjectiveConfig], metrics: Mapping[int, Metrics]) -> list[int]:
    """The candidates that no other dominates in the objectives, by their numbers in ascending order."""
    values = {number: objective_scores(objectives, each) for number, each in metrics.items()}
    front: list[int] = []
    # In this order nobody is dominated by somebody who comes later, so that comparing with the front is enough.
    for number in sorted(values, key=lambda number: values[number], reverse=True):
        if not any(dominates(values[other], values[number]) for other in front):
            front.append(number)
    return sorted(front)
