"""Which architectures to measure on a new device.

One after the other, the architecture is taken whose measurement leaves the least variance, on average, in the
predictions of all others: I-optimal design, chosen greedily (Atkinson, Donev & Tobias 2007, Optimum Experimental
Designs). In a linear model with normal noise that does not depend on what the measurements will say. Only differences
between predictions count, for the offset of a device changes no order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def choose(covariance: Floats, candidates: Floats, noise_variance: Floats, everywhere: Floats, count: int) -> list[int]:
    """Rows of the candidates to measure, in order; none twice.

    Args:
        covariance: (p, p) covariance of the weights.
        candidates: (m, p) features of the candidates.
        noise_variance: (m,) variance of the noise of a measurement of each.
        everywhere: (n, p) features of architectures whose predictions should be good.
        count: Number of rows; all candidates if there are fewer.
    """
    differences = everywhere - everywhere.mean(axis=0)
    scatter = differences.T @ differences / len(everywhere)
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        cross = candidates @ covariance
        variance = (cross * candidates).sum(axis=1) + noise_variance
        gain = ((cross @ scatter) * cross).sum(axis=1) / variance
        gain[chosen] = -np.inf
        best = int(gain.argmax())
        chosen.append(best)
        covariance = covariance - np.outer(cross[best], cross[best]) / variance[best]
    return chosen


def measure(covariance: Floats, measured: Floats, noise_variance: Floats) -> Floats:
    """The covariance (p, p) that is left after measurements of (k, p), each with its noise (k,)."""
    cross = covariance @ measured.T
    remaining: Floats = covariance - cross @ np.linalg.solve(measured @ cross + np.diag(noise_variance), cross.T)
    return remaining
