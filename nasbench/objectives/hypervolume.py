"""How much of the space of objectives a search has covered, and when.

Zitzler & Thiele 1999, Multiobjective Evolutionary Algorithms: A Comparative Case Study and the Strength Pareto
Approach, IEEE TEC 3(4): the volume that a set of points dominates, up to a reference point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from controllers.core import front_of
from nasbench.objectives.metrics import FOOTPRINT, Metrics
from nasbench.objectives.objective import Objective

Points = npt.NDArray[np.float64]

LOGARITHMIC = frozenset(
    {"latency_ms", "throughput_per_s", "macs", "params", "size_bytes", "peak_memory_bytes", "energy_mj", *FOOTPRINT}
)
"""Costs, of which ratios count."""


def hypervolume(points: Points) -> float:
    """The volume of the union of the boxes from the origin to each point.

    By slicing the first objective and adding up the volumes of the slices in the others: exact, and quick enough for
    some hundred points of two to four objectives.

    Args:
        points: (n, k) points, larger is better; what is not above zero everywhere covers nothing.
    """
    points = points[(points > 0).all(axis=1)]
    if len(points) == 0:
        return 0.0
    if points.shape[1] == 1:
        return float(points.max())
    points = points[np.argsort(-points[:, 0], kind="stable")]
    edges = np.append(points[1:, 0], 0.0)
    if points.shape[1] == 2:
        heights = np.maximum.accumulate(points[:, 1])
        return float(((points[:, 0] - edges) * heights).sum())
    total, front = 0.0, np.empty((0, points.shape[1] - 1))
    for index, (point, edge) in enumerate(zip(points, edges, strict=True)):
        front = front_of(np.vstack([front, point[None, 1:]]))
        depth = points[index, 0] - edge
        if depth > 0:
            total += depth * hypervolume(front)
    return total


def front(points: Points) -> Points:
    """The points that no other dominates; quick for many points, for it keeps only what is not dominated so far."""
    front_points = np.zeros((0, points.shape[1]))
    for point in points[np.argsort(-points.sum(axis=1), kind="stable")]:  # nothing is dominated by what comes later
        if not (front_points >= point).all(axis=1).any():
            front_points = np.vstack([front_points, point])
    return front_points


@dataclass(frozen=True)
class Scale:
    """Objectives as numbers from 0, at the reference, to 1, at the ideal: the same for all runs that are compared.

    Costs are compared by their logarithms, so that halving one counts the same wherever it happens.

    Attributes:
        objectives: Objectives of the experiment.
        reference: Worst value of each metric among all candidates.
        ideal: Best value of each metric among all candidates.
    """

    objectives: tuple[Objective, ...]
    reference: Mapping[str, float]
    ideal: Mapping[str, float]

    @classmethod
    def of(cls, objectives: Sequence[Objective], candidates: Sequence[Metrics]) -> Scale:
        """The scale over all of these candidates, which have all metrics of the objectives."""
        reference, ideal = {}, {}
        for objective in objectives:
            values = [metrics[objective.metric] for metrics in candidates]
            low, high = min(values), max(values)
            reference[objective.metric], ideal[objective.metric] = (
                (low, high) if objective.goal == "max" else (high, low)
            )
        return cls(tuple(objectives), reference, ideal)

    def points(self, candidates: Sequence[Metrics]) -> Points:
        """(n, k) from 0 to 1 within the candidates that the scale was made from."""
        columns = []
        for objective in self.objectives:
            name = objective.metric
            values = np.array([metrics[name] for metrics in candidates], dtype=np.float64)
            ends = np.array([self.reference[name], self.ideal[name]])
            if name in LOGARITHMIC:
                values, ends = np.log(np.maximum(values, 1e-12)), np.log(np.maximum(ends, 1e-12))
            width = ends[1] - ends[0]
            # With nothing between the ends, everything is as good as it can be.
            columns.append(np.ones(len(values)) if abs(width) < 1e-12 else (values - ends[0]) / width)
        return np.stack(columns, axis=1) if columns else np.zeros((len(candidates), 0))

    def to_json(self) -> dict[str, Any]:
        """Reference and ideal by metric, and which are compared by their logarithms."""
        return {
            "reference": dict(self.reference),
            "ideal": dict(self.ideal),
            "logarithmic": [objective.metric for objective in self.objectives if objective.metric in LOGARITHMIC],
        }


def growth(points: Points) -> list[float]:
    """The hypervolume of the first point, of the first two, and so on, (n,)."""
    values: list[float] = []
    front = np.empty((0, points.shape[1]))
    for point in points:
        covered = len(front) > 0 and bool((front >= point).all(axis=1).any())
        if not covered:
            front = front_of(np.vstack([front, point[None]]))
        values.append(values[-1] if covered and values else hypervolume(front))
    return values
