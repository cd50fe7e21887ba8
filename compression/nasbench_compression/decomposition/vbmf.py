"""The rank of a noisy matrix by empirical variational Bayes, without any number to choose.

Nakajima, Sugiyama, Babacan and Tomioka, Global Analytic Solution of Fully-observed Variational Bayesian Matrix
Factorization, JMLR 14, 2013; in the closed form for the empirical solution of Nakajima, Tomioka, Sugiyama and Babacan,
Perfect Dimensionality Recovery by Variational Bayesian PCA, NIPS 2012. As a rule for ranks: Kim et al., ICLR 2016,
arXiv:1511.06530.

A matrix of L rows and M >= L columns is taken to be one of low rank and Gaussian noise of variance v. With
a = L / M, x_h = g_h^2 / (M v) for its singular values g_h, and t the zero of f(t) + f(t / a), f(z) = log(1 + z) / z
- 1/2, a component is kept if x_h > c = (1 + t) (1 + a / t). The variance, unknown too, is that which minimises the
free energy, the sum over h of

    x_h - log x_h  +  [x_h > c] (log(1 + T) + a log(1 + T / a) - T),
    where T = (x_h - (1 + a) + sqrt((x_h - (1 + a))^2 - 4 a)) / 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

_GRID = 200  # the free energy has several minima


@dataclass(frozen=True)
class VBMF:
    """Result of the factorization.

    Attributes:
        rank: Number of components above the noise.
        noise_variance: Variance of the noise of each value of the matrix.
    """

    rank: int
    noise_variance: float


def vbmf(matrix: NDArray[np.float64]) -> VBMF:
    """Rank and noise of a matrix.

    Args:
        matrix: Matrix (rows, columns); either side may be the longer one.

    Returns:
        The rank is that of the matrix, with no noise, where there is none.
    """
    rows, columns = sorted(matrix.shape)
    squares = np.linalg.svd(matrix, compute_uv=False) ** 2
    total = float(squares.sum())
    exact = int((squares > squares[0] * (columns * np.finfo(np.float64).eps) ** 2).sum())
    if total == 0 or exact < rows or rows == 1:
        return VBMF(exact if total else 0, 0.0)
    share = rows / columns
    threshold = _threshold(share)
    most = min(math.ceil(rows / (1 + share)) - 1, rows - 1)  # components that the theory allows
    low = max(squares[most] / (columns * threshold), squares[most:].mean() / columns)
    high = total / (rows * columns)
    variance = _minimize(squares / columns, share, threshold, float(low), high)
    return VBMF(int((squares > columns * variance * threshold).sum()), variance)


def _threshold(share: float) -> float:
    """The smallest x that is kept."""

    def difference(t: float) -> float:
        return math.log1p(t) / t + math.log1p(t / share) / (t / share) - 1

    t = optimize.brentq(difference, 1e-6 * share, 10.0)
    return float((1 + t) * (1 + share / t))


def _minimize(scaled: NDArray[np.float64], share: float, threshold: float, low: float, high: float) -> float:
    """The variance between `low` and `high` with the least free energy, for squared singular values / columns."""

    def energy(log_variance: float) -> float:
        x = scaled / math.exp(log_variance)
        signal = x[x > threshold]
        rest = signal - (1 + share)
        t = (rest + np.sqrt(np.maximum(rest**2 - 4 * share, 0))) / 2
        return float((x - np.log(x)).sum() + (np.log1p(t) + share * np.log1p(t / share) - t).sum())

    if not low < high:
        return high
    grid = np.linspace(math.log(low), math.log(high), _GRID)
    best = int(np.argmin([energy(point) for point in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    minimum = optimize.minimize_scalar(energy, bounds=bounds, method="bounded")
    return math.exp(float(minimum.x))
