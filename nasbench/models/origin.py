"""Where a model of a problem comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasbench.models.normalization import normalization_of
from nasbench.models.store import Origin
from nasbench.problems.image_classification import ImageClassification


def origin_of(problem: ImageClassification, metrics: Mapping[str, Any] | None = None) -> Origin:
    """Where a model of a problem comes from.

    Args:
        problem: that it was trained for.
        metrics: that were measured of it.
    """
    data = problem.data
    return Origin(
        dict(problem.source),
        problem.training.model_dump(mode="json"),
        normalization_of(data) | {"labels": list(data.labels)},
        metrics or {},
    )
