"""From metrics to scores: the only place where a sign is flipped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from controllers import dominates
from nasbench.objectives.metrics import Goal, Metrics, goal_of, summary_of
from nasbench.objectives.objective import Objective
from nasbench_registry.config import Positive, Strict

STEEPEST = -10
"""The lowest exponent of `weighted_product`: far below it a score is no finite number any more."""
LEAST = 1e-6
"""Smallest share of a target that a metric counts as in `weighted_product`: no multiply-adds at all, for example."""


class WeightedProduct(Strict):
    """MnasNet's reward: the metric to maximise times (metric / target) ** exponent for each target.

    Attributes:
        target: The target of each metric. Where more is better, such as for throughput, the ratio is turned round, so
            that the same exponents reward what is better.
        exponent: One number, -0.07 is the paper's soft constraint; or two, its alpha for candidates that meet the
            target and its beta for the others: [0, -1] is its hard constraint. From `STEEPEST` to 0.
    """

    name: Literal["weighted_product"]
    target: Annotated[dict[str, Positive], Field(min_length=1)]
    exponent: float | tuple[float, float] = -0.07

    @field_validator("exponent")
    @classmethod
    def _rewards_what_is_better(cls, exponent: float | tuple[float, float]) -> float | tuple[float, float]:
        for value in exponent if isinstance(exponent, tuple) else (exponent,):
            if not STEEPEST <= value <= 0:
                raise ValueError(
                    f"{value:g} is not from {STEEPEST} to 0; an exponent above 0 rewards candidates for what is worse, "
                    f"also in throughput, so give -0.07 (the paper's), or [0, -1] for a hard constraint."
                )
        return exponent


class Pareto(Strict):
    """Every objective is a score of its own; the controller has to take several."""

    name: Literal["pareto"]


class Scalar(Strict):
    """The first objective alone; the others only shape the front and the limits."""

    name: Literal["scalar"]


Reward = Annotated[WeightedProduct | Pareto | Scalar, Field(discriminator="name")]


def needed_metrics(objectives: Sequence[Objective], reward: Reward) -> set[str]:
    """The metrics that an objective or the reward reads."""
    targets = set(reward.target) if isinstance(reward, WeightedProduct) else set()
    return {objective.metric for objective in objectives} | targets


def scores(objectives: Sequence[Objective], reward: Reward, metrics: Metrics) -> tuple[float, ...]:
    """The scores that a controller gets, larger is better.

    `weighted_product` is the metric to maximise times (metric / target) ** exponent for each target, as in MnasNet
    (Tan et al. 2019, arXiv 1807.11626); `pareto` gives one score for each objective; `scalar` the first alone.

    Beyond the paper, whose only target is a latency: of a metric of which more is better the factor is
    (target / metric) ** exponent, so that the same exponents reward what is better; less than `LEAST` of a target
    counts as `LEAST` of it; a metric to maximise that is below zero is divided by the factors.
    """
    values = objective_scores(objectives, metrics)
    if isinstance(reward, Pareto):
        return values
    if isinstance(reward, WeightedProduct):
        main = next(objective.metric for objective in objectives if objective.goal == "max")
        goals: dict[str, Goal | None] = {objective.metric: objective.goal for objective in objectives}
        factor = math.prod(
            _factor(reward, target, metrics[metric], goals.get(metric, goal_of(metric)))
            for metric, target in reward.target.items()
        )
        return (metrics[main] * factor if metrics[main] >= 0 else metrics[main] / factor,)
    return values[:1]


def _factor(reward: WeightedProduct, target: float, value: float, goal: Goal | None) -> float:
    value = max(value, LEAST * target)
    cost = target / value if goal == "max" else value / target  # above 1 it misses the target
    alpha, beta = reward.exponent if isinstance(reward.exponent, tuple) else (reward.exponent, reward.exponent)
    return float(cost ** (alpha if cost <= 1 else beta))


def objective_scores(objectives: Sequence[Objective], metrics: Metrics) -> tuple[float, ...]:
    """One score for each objective, larger is better."""
    return tuple(metrics[o.metric] if o.goal == "max" else -metrics[o.metric] for o in objectives)


def broken_limit(objectives: Sequence[Objective], metrics: Metrics) -> str | None:
    """The hard limit that these metrics break, in words; None if none. A metric that is not known yet breaks none."""
    for objective in objectives:
        value, limit = metrics.get(objective.metric), objective.limit
        if value is None or limit is None:
            continue
        if (value > limit) if objective.goal == "min" else (value < limit):
            summary = summary_of(objective.metric)
            meaning = f" ({summary})" if summary else ""
            side = "over" if objective.goal == "min" else "under"
            return f"{objective.metric} {value:.4g} is {side} the limit {limit:.4g}{meaning}"
    return None


def violation(objectives: Sequence[Objective], metrics: Metrics) -> float:
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


def pareto_front(objectives: Sequence[Objective], metrics: Mapping[int, Metrics]) -> list[int]:
    """The candidates that no other dominates in the objectives, by their numbers in ascending order."""
    alike: dict[tuple[float, ...], list[int]] = {}  # those with the same values: of a small space there are many
    for number, candidate_metrics in metrics.items():
        alike.setdefault(objective_scores(objectives, candidate_metrics), []).append(number)
    front: list[tuple[float, ...]] = []
    # In this order nobody is dominated by somebody who comes later, so that comparing with the front is enough.
    for values in sorted(alike, reverse=True):
        if not any(dominates(member, values) for member in front):
            front.append(values)
    return sorted(number for values in front for number in alike[values])
