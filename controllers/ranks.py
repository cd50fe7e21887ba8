"""Scores as ranks: what predictors learn from, whatever the scale of the scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import rankdata

Vector = npt.NDArray[np.float64]


FAILED_BELOW = 1.0  # how far a failure lies below the worst success, in standard deviations


def normal_scores(scores: Vector) -> Vector:
    """The ranks of (n,) scores as quantiles of a normal distribution, with mean zero and deviation one.

    Ties share a rank. Minus infinity stands for what failed: it lies below the worst of the others, which keep their
    ranks among themselves. Zeros for scores that are all equal.
    """
    failed = np.isneginf(scores)
    values = np.zeros(len(scores))
    fine = scores[~failed]
    if len(fine) and fine.min() < fine.max():
        quantiles = ndtri((rankdata(fine) - 0.5) / len(fine))
        values[~failed] = (quantiles - quantiles.mean()) / quantiles.std()
    if len(fine):
        values[failed] = values[~failed].min() - FAILED_BELOW
    return values
