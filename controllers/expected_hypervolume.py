"""The expected gain of hypervolume, and its logarithm (Emmerich et al. 2006; Ament et al. 2023, arXiv 2310.20708)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import erfcx, logsumexp, ndtr

from controllers.core import front_of

Array = npt.NDArray[np.float64]

MOST_LEVELS = {1: 1, 2: 64, 3: 24, 4: 12}
"""Points of a front that are looked at exactly, by the number of objectives; of a larger front a spread selection."""


def spread(front: Array, most: int) -> Array:
    """At most so many points of a front: the best in each objective, then always the one farthest from those taken."""
    if len(front) <= most:
        return front
    width = np.maximum(front.max(axis=0) - front.min(axis=0), 1e-12)
    scaled = front / width
    chosen = list(dict.fromkeys(front.argmax(axis=0).tolist()))[:most]
    distance = np.min([np.abs(scaled - scaled[index]).max(axis=1) for index in chosen], axis=0)
    while len(chosen) < most:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.abs(scaled - scaled[chosen[-1]]).max(axis=1))
    return front[sorted(chosen)]


def boxes(front: Array, reference: Array) -> tuple[Array, Array]:
    """The region above the reference that a front does not dominate, as boxes that do not overlap.

    By slicing the last objective: between two levels of it, what is dominated is what the points above dominate in the
    others.

    Args:
        front: (f, k) points of the front; larger is better.
        reference: (k,) lower corner of the region.

    Returns:
        (b, k) lower and upper corners; those of the outermost boxes are infinite.
    """
    front = front[(front > reference).all(axis=1)]
    objectives = len(reference)
    if objectives == 1:
        low = np.array([[front.max() if len(front) else reference[0]]])
        return low, np.full((1, 1), np.inf)
    front = front[np.argsort(-front[:, -1], kind="stable")]
    if objectives == 2:
        return _strips(front, reference)
    levels = np.concatenate([[np.inf], front[:, -1], [reference[-1]]])
    lows, highs = [], []
    for index in range(len(front) + 1):
        top, bottom = levels[index], levels[index + 1]
        if top <= bottom:
            continue
        above = front[:index, :-1]
        low, high = boxes(above if objectives == 3 else front_of(above), reference[:-1])
        lows.append(np.column_stack([low, np.full(len(low), bottom)]))
        highs.append(np.column_stack([high, np.full(len(high), top)]))
    return np.vstack(lows), np.vstack(highs)


def _strips(points: Array, reference: Array) -> tuple[Array, Array]:
    """`boxes` for two objectives: strips between two levels of the second, from the best of the first above them on.

    Args:
        points: (n, 2) points above the reference, by their second objective, the largest first; those that others
            dominate count for nothing.
        reference: (2,) lower corner of the region.
    """
    best = np.maximum.accumulate(np.concatenate([reference[:1], points[:, 0]]))
    ahead = np.concatenate([points[:, 0] > best[:-1], [True]])  # a level ends a strip if it brings more of the first
    bottom = np.concatenate([points[:, 1], reference[1:]])[ahead]
    top = np.concatenate([[np.inf], bottom[:-1]])
    left = np.concatenate([reference[:1], points[ahead[:-1], 0]])
    high = np.column_stack([np.full(len(top), np.inf), top])
    thick = top > bottom
    return np.column_stack([left, bottom])[thick], high[thick]


def log_expected_gain(mean: Array, deviation: Array, low: Array, high: Array) -> Array:
    """(m,) the logarithm of the expected hypervolume that a point adds, for independent normal objectives.

    The sum over boxes of the product over objectives of E[(min(y, high) - low)+]; everything in logarithms, so that
    candidates of which hardly anything is expected can still be compared.

    Args:
        mean: (m, k) means of the candidates.
        deviation: (m, k) standard deviations of the candidates.
        low: (b, k) lower corners of the boxes that are not dominated, see `boxes`.
        high: (b, k) upper corners.
    """
    total = np.zeros((len(mean), len(low)))
    for objective in range(mean.shape[1]):
        center, width = mean[:, objective, None], deviation[:, objective, None]
        edges, places = np.unique(np.concatenate([low[:, objective], high[:, objective]]), return_inverse=True)
        below, above = places[: len(low)], places[len(low) :]
        with np.errstate(invalid="ignore"):
            heights = log_mean_excess((center - edges) / width)
        # E[(min(y, high) - low)+] = s (h((m - low) / s) - h((m - high) / s)), and h falls to the right.
        lower, upper = heights[:, below], heights[:, above]
        total += np.log(width) + lower + np.log1p(-np.exp(np.minimum(upper - lower, -1e-14)))
    gains: Array = logsumexp(total, axis=1)
    return gains


def log_mean_excess(z: Array) -> Array:
    """The logarithm of E[(z + e)+] for a standard normal e: log(z Phi(z) + phi(z)), exact far below zero, too."""
    z = np.asarray(z, dtype=np.float64)
    excess = np.full(z.shape, -np.inf)
    near = z > -1
    excess[near] = np.log(z[near] * ndtr(z[near]) + np.exp(-0.5 * z[near] ** 2) / math.sqrt(2 * math.pi))
    far = ~near & (z > -1e6)
    out = z[far]
    ratio = np.log(erfcx(-out / math.sqrt(2)) * -out) + 0.5 * math.log(math.pi / 2)
    tail = np.where(out < -1e3, -2 * np.log(-out), np.log(-np.expm1(np.minimum(ratio, -1e-300))))
    excess[far] = -0.5 * out**2 - 0.5 * math.log(2 * math.pi) + tail
    return excess
