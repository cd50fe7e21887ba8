"""Where a model of a problem comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasbench.models.normalization import normalization_of
from nasbench.models.store import Origin
from nasbench.problems.problem import Problem
from nasbench.problems.supervised import Supervised


def origin_of(problem: Problem, metrics: Mapping[str, Any] | None = None) -> Origin:
    """Where a model of a problem comes from.

    Args:
        problem: that it was trained for.
        metrics: that were measured of it.
    """
    training = problem.training.model_dump(mode="json")
    if not isinstance(problem, Supervised):
        return Origin({}, training, {}, metrics or {}, problem.source)
    return Origin(dict(problem.data_source), training, normalization_of(problem.data), metrics or {}, problem.source)
