"""Smaller factors under a bound on the error, which keeps CP stable.

Phan et al., Stable Low-rank Tensor Decomposition for Compression of Convolutional Neural Network, ECCV 2020,
arXiv:2008.05441. Least squares often ends in components that are huge and cancel each other; fine-tuning then fails,
for a small step in a factor is a large one in the weight. Error preserving correction looks for factors that are no
worse an approximation, but as insensitive as can be.
"""

from __future__ import annotations

import math

import numpy as np
import tensorly
from numpy.typing import NDArray
from scipy import optimize
from tensorly.cp_tensor import cp_to_tensor
from tensorly.tenalg import unfolding_dot_khatri_rao

Array = NDArray[np.float64]
_TINY = 1e-14
_VANISHED = 1e-12


def sensitivity(factors: list[Array]) -> float:
    """Expected squared change of the tensor, per unit of variance, when noise is added to all values of all factors.

    The sum over components and dimensions of a dimension's size times the squared norms of the other factors.

    Args:
        factors: One matrix (size of the dimension, rank) for each dimension.
    """
    squares = np.stack([(factor**2).sum(axis=0) for factor in factors])
    return float(
        sum(len(factor) * np.delete(squares, mode, axis=0).prod(axis=0).sum() for mode, factor in enumerate(factors))
    )


def correct(weight: Array, factors: list[Array], bound: float, sweeps: int) -> list[Array]:
    """Factors of less sensitivity that leave no larger error than `bound`.

    Alternating over the factors: with the others fixed, the sensitivity is a weighted sum of squares of the columns of
    one, and the error a quadratic function of it, so its best value is a ridge regression whose strength the bound
    decides. Deviation from the paper: it is for any number of dimensions.

    Args:
        weight: Any tensor that is not zero.
        factors: Factors of the tensor; they are not changed.
        bound: Upper bound of ||W - W'|| / ||W||; that of `factors` should be below it.
        sweeps: Number of sweeps over all factors.

    Returns:
        The corrected factors, or `factors` if they could not be made less sensitive.
    """
    norm = float(np.linalg.norm(weight))
    scaled = weight / norm
    corrected = [factor / norm ** (1 / len(factors)) for factor in factors]
    with tensorly.backend.backend_context("numpy", local_threadsafe=True):
        for _ in range(sweeps):
            for mode in range(len(corrected)):
                corrected[mode] = _corrected(scaled, corrected, mode, bound)
        error = float(np.linalg.norm(scaled - cp_to_tensor((None, corrected))))
    corrected = [factor * norm ** (1 / len(factors)) for factor in corrected]
    acceptable = all(np.isfinite(factor).all() for factor in corrected) and error <= bound * (1 + 1e-3)
    return corrected if acceptable and sensitivity(corrected) < sensitivity(factors) else factors


def _corrected(weight: Array, factors: list[Array], mode: int, bound: float) -> Array:
    """One factor, given the others; the tensor has norm one."""
    fixed_factors = [factor for index, factor in enumerate(factors) if index != mode]
    squares = np.stack([(factor**2).sum(axis=0) for factor in fixed_factors])
    price = np.sqrt(
        sum(len(factor) * np.delete(squares, index, axis=0).prod(axis=0) for index, factor in enumerate(fixed_factors))
    )
    alive = price > _VANISHED * price.max()  # a component that vanished takes no part; its price would divide by zero
    if not alive.any():
        return factors[mode]
    price = price[alive]
    gram = np.prod([factor[:, alive].T @ factor[:, alive] for factor in fixed_factors], axis=0) / np.outer(price, price)
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, _TINY * max(float(values[-1]), 1e-300))
    target = (unfolding_dot_khatri_rao(weight, (None, factors), mode)[:, alive] / price) @ vectors
    squared = (target**2).sum(axis=0)

    def excess(log_ridge: float) -> float:
        ridge = math.exp(log_ridge)
        fit = float((squared * (values + 2 * ridge) / (values + ridge) ** 2).sum())
        return max(1 - fit, 0.0) - bound**2

    low, high = math.log(float(values[-1]) * 1e-13), math.log(float(values[-1]) * 1e6)
    if excess(low) >= 0 or excess(high) <= 0:
        return factors[mode]
    ridge = math.exp(optimize.brentq(excess, low, high, xtol=1e-3))
    corrected = factors[mode].copy()
    corrected[:, alive] = ((target / (values + ridge)) @ vectors.T) / price
    return corrected
