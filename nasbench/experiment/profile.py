"""What the networks of a space cost before training, and what share of them meets the limits of an experiment."""

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
        metric: its name, with its unit.
        quantiles: min, q25, median, q75 and max.
        histogram: architectures in each of `BINS` equal intervals from min to max.
        at_min: an architecture that has the minimum, in the notation of the space.
        at_max: likewise of the maximum.
        goal: of its objective; None if it is no objective.
        limit: of its objective.
        share_within: share of architectures that meet the limit; None without one.
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
    """What was found.

    Attributes:
        architectures: distinct ones that were costed.
        exhaustive: whether these are all that the space has.
        costs: one entry a cost.
        feasible: how many meet every limit that is known before training.
        interval: the 95 % interval of their share (Wilson 1927); the share itself where the sample is exhaustive.
        not_checked: limits on metrics that are known only after training.
        failed: architectures whose network could not be built, and why.
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
        space: what is profiled.
        task: what the networks are built for.
        objectives: whose limits are checked.
        samples: how many; fewer if the space has fewer.
        seed: of the sample.
        predictor: of latency; None leaves latency out.
        batch: images in one inference of the predicted device.
        on_progress: called with the number of costed architectures and of all.

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
        which, reason = next(iter(failed.items()))
        raise UserError(f"none of {len(archs)} networks of space {space.name!r} could be built: {which}: {reason}.")
    known = [metric for metric in costed[0][1] if metric != "latency_std_ms"]
    feasible = sum(broken_limit(objectives, metrics) is None for _, metrics in costed)
    exhaustive = not failed and _is_all(space, len(archs), samples)
    share = feasible / len(costed)
    return SpaceProfile(
        architectures=len(costed),
        exhaustive=exhaustive,
        costs=[_cost_profile(metric, costed, space, objectives) for metric in known],
        feasible=feasible,
        interval=(share, share) if exhaustive else share_interval(feasible, len(costed)),
        not_checked=[each.metric for each in objectives if each.limit is not None and each.metric not in known],
        failed=failed,
    )


def _cost_profile(
    metric: str,
    costed: Sequence[tuple[Architecture, Mapping[str, float]]],
    space: SearchSpace,
    objectives: Sequence[Objective],
) -> CostProfile:
    values = np.array([metrics[metric] for _, metrics in costed])
    own = [each for each in objectives if each.metric == metric]
    limit = own[0].limit if own else None
    within = None if limit is None else sum(broken_limit(own, metrics) is None for _, metrics in costed) / len(costed)
    return CostProfile(
        metric=metric,
        quantiles={name: float(np.quantile(values, share)) for name, share in QUANTILES.items()},
        histogram=[int(count) for count in np.histogram(values, bins=BINS)[0]],
        at_min=space.format(costed[int(values.argmin())][0]),
        at_max=space.format(costed[int(values.argmax())][0]),
        goal=own[0].goal if own else None,
        limit=limit,
        share_within=within,
    )


def _is_all(space: SearchSpace, found: int, samples: int) -> bool:
    """Whether `found` distinct architectures are the whole space; large spaces are not counted."""
    return math.prod(space.layout.sizes) <= 20 * samples and space.count_distinct() == found


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
