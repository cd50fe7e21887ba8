"""The problems by name; none of them is imported before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasbench_registry import Entries

if TYPE_CHECKING:
    from nasbench.problems.problem import Problem

CLASSIFICATION = "image_classification"
PROBLEMS: Entries[type[Problem]] = Entries(
    {
        CLASSIFICATION: "nasbench.problems.image_classification:ImageClassification",
        "image_segmentation": "nasbench.problems.image_segmentation:ImageSegmentation",
        "regression": "nasbench.problems.regression:Regression",
    }
)
