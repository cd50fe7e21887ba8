"""The costs of the networks of a space before training, and the share of them that meets the limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasbench.evaluators.costs import paper_costs
from nasbench.latency.calibrate import distinct_sample
from nasbench.latency.calibration import NetworkPredictor
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import broken_limit
from nasbench.objectives.statistics import share_interval
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace, Task
from search_spaces.fresh_model import fresh_model

QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}
BINS = 16


@dataclass(frozen=True)
class CostProfile:
    """One cost over the profiled architectures.

    Attributes:
        metric: Name of the metric, with its unit.
        quantiles: Quantiles: min, q25, median, q75 and max.
        histogram: Numbers of architectures in each of `BINS` equal intervals from min to max.
        at_min: Architecture that has the minimum, in the notation of the space.
        at_max: Architecture that has the maximum, in the notation of the space.
        goal: Goal of its objective; None if it is no objective.
        limit: Limit of its objective; None if there is none.
        share_within: Share of architectures that meet the limit; None without one.
    """

    metric: str
    quantiles: Mapping[str, float]
    histogram: Sequence[int]
    at_min: str
    at_max: str
    goal: str | None
    limit: float | None
    share_within: float | None


@dataclass(frozen=True)
class SpaceProfile:
    """The costs of the networks of a space.

    Attributes:
        architectures: Number of distinct architectures that were costed.
        exhaustive: Whether these are all that the space has.
        costs: Profile of each cost.
        feasible: Number of architectures that meet every limit that is known before training.
        interval: 95 % interval of their share (Wilson 1927); the share itself where the sample is exhaustive.
        not_checked: Limits on metrics that are known only after training.
        failed: Architectures whose network could not be built, and why.
    """

    architectures: int
    exhaustive: bool
    costs: Sequence[CostProfile]
    feasible: int
    interval: tuple[float, float]
    not_checked: Sequence[str]
    failed: Mapping[str, str]

    @property
    def feasible_share(self) -> float:
        """The share of architectures that meet every limit that is known before training."""
        return self.feasible / self.architectures


def profile_space(
    space: SearchSpace,
    task: Task,
    objectives: Sequence[Objective],
    *,
    samples: int,
    seed: int,
    predictor: NetworkPredictor | None = None,
    batch: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> SpaceProfile:
    """Cost up to `samples` distinct random architectures, each with its peak activation memory and the bytes it moves.

    Args:
        space: Space to profile.
        task: Shapes of the inputs and outputs of the networks.
        objectives: Objectives whose limits are checked.
        samples: Number of architectures; fewer if the space has fewer.
        seed: Random seed of the sample.
        predictor: Predictor of latency; None leaves latency out.
        batch: Images in one inference of the predicted device.
        on_progress: Function that is called with the number of costed architectures and of all.

    Raises:
        UserError: no network could be built.
    """
    archs = distinct_sample(space, samples, np.random.default_rng(seed))
    costed: list[tuple[Architecture, dict[str, float]]] = []
    failed: dict[str, str] = {}
    for done, arch in enumerate(archs, start=1):
        try:
            model = fresh_model(space, arch, task, seed)
            costed.append((arch, paper_costs(model, task, predictor, arch=arch, batch=batch, peak=True, traffic=True)))
        except Exception as error:  # one network that cannot be built is a finding, not the end
            failed[space.format(arch)] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        on_progress(done, len(archs))
    if not costed:
        architecture, reason = next(iter(failed.items()))
        raise UserError(
            f"none of {len(archs)} networks of space {space.name!r} could be built: {architecture}: {reason}."
        )
    metric_names = [metric for metric in costed[0][1] if metric != "latency_std_ms"]
    feasible = sum(broken_limit(objectives, metrics) is None for _, metrics in costed)
    exhaustive = not failed and _is_all(space, len(archs), samples)
    share = feasible / len(costed)
    return SpaceProfile(
        architectures=len(costed),
        exhaustive=exhaustive,
        costs=[_cost_profile(metric, costed, space, objectives) for metric in metric_names],
        feasible=feasible,
        interval=(share, share) if exhaustive else share_interval(feasible, len(costed)),
        not_checked=[
            objective.metric
            for objective in objectives
            if objective.limit is not None and objective.metric not in metric_names
        ],
        failed=failed,
    )


def _cost_profile(
    metric: str,
    costed: Sequence[tuple[Architecture, Mapping[str, float]]],
    space: SearchSpace,
    objectives: Sequence[Objective],
) -> CostProfile:
    values = np.array([metrics[metric] for _, metrics in costed])
    objectives_of_metric = [objective for objective in objectives if objective.metric == metric]
    limit = objectives_of_metric[0].limit if objectives_of_metric else None
    within = (
        None
        if limit is None
        else sum(broken_limit(objectives_of_metric, metrics) is None for _, metrics in costed) / len(costed)
    )
    return CostProfile(
        metric=metric,
        quantiles={name: float(np.quantile(values, share)) for name, share in QUANTILES.items()},
        histogram=[int(count) for count in np.histogram(values, bins=BINS)[0]],
        at_min=space.format(costed[int(values.argmin())][0]),
        at_max=space.format(costed[int(values.argmax())][0]),
        goal=objectives_of_metric[0].goal if objectives_of_metric else None,
        limit=limit,
        share_within=within,
    )


def _is_all(space: SearchSpace, count: int, samples: int) -> bool:
    """Whether `count` distinct architectures are the whole space; large spaces are not counted."""
    return math.prod(space.layout.sizes) <= 20 * samples and space.count_distinct() == count


def to_json(profile: SpaceProfile) -> dict[str, Any]:
    """A JSON object with every field, and the feasible share."""
    return {
        "architectures": profile.architectures,
        "exhaustive": profile.exhaustive,
        "costs": [dict(vars(cost)) for cost in profile.costs],
        "feasible": {
            "architectures": profile.feasible,
            "share": profile.feasible_share,
            "low": profile.interval[0],
            "high": profile.interval[1],
            "not_checked": list(profile.not_checked),
        },
        "failed": dict(profile.failed),
    }
