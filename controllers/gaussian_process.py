"""A Gaussian process over architectures (Rasmussen & Williams 2006, Gaussian Processes for Machine Learning)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Array = npt.NDArray[np.float64]
Groups = tuple[Array, ...]  # (n, d_g) features of the same n points, one array for each group

PRIOR_WIDTHS = (0.7, 1.0)  # standard deviations of the logarithm of scales, and of variances and noise
SMALLEST_NOISE = 1e-4  # variance; keeps the factors well conditioned


@dataclass(frozen=True)
class Kernel:
    """A sum over groups of features, each with its own scale and weight:

        k(a, b) = sum over g of variance_g * exp(-|a_g - b_g|^2 / (2 * scale_g^2))

    so that what a decision is worth by itself, and what a path through the graph is worth, are learned side by side.
    What is observed has independent noise besides.

    Attributes:
        scales: Length scale of each group.
        variances: Variance of each group.
        noise: Variance of the noise.
    """  # noqa: D415  # the first sentence ends in a formula

    scales: tuple[float, ...]
    variances: tuple[float, ...]
    noise: float

    @property
    def variance(self) -> float:
        """The variance of the function at one point, before anything is observed."""
        return sum(self.variances)

    def __call__(self, a: Groups, b: Groups) -> Array:
        """(n, m) covariances of the function at n points and at m others."""
        total = np.zeros((len(a[0]), len(b[0])))
        for left, right, scale, variance in zip(a, b, self.scales, self.variances, strict=True):
            total += variance * np.exp(squared_distances(left, right) * (-0.5 / scale**2))
        return total


def squared_distances(a: Array, b: Array) -> Array:
    """(n, m) squared Euclidean distances of the rows of two arrays."""
    squares = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)[None]
    distances: Array = np.maximum(squares - 2 * (a @ b.T), 0)
    return distances


def default_kernel(points: Groups, noise: float = 0.1) -> Kernel:
    """The kernel to start from: the scale of a group is the root mean square distance of these points.

    Groups in which all points agree are worth nothing and get the scale one.
    """
    scales = [float(np.sqrt(squared_distances(group, group).mean())) or 1.0 for group in points]
    return Kernel(tuple(scales), (1 / len(points),) * len(points), noise)


def fit_kernel(start: Kernel, prior: Kernel, points: Groups, values: Array, *, steps: int = 20) -> Kernel:
    """The kernel of highest posterior density, climbing from `start` by L-BFGS along the exact gradient.

    The likelihood is the marginal one of the values. Scales, variances and noise have log-normal priors around those
    of `prior`, so that few values change little.
    """
    center = _pack(prior)
    widths = np.repeat(PRIOR_WIDTHS, [len(prior.scales), len(prior.variances) + 1])
    distances = [squared_distances(group, group) for group in points]
    groups, identity = len(points), np.eye(len(values))

    def loss(theta: Array) -> tuple[float, Array]:
        kernel = _unpack(theta, groups)
        parts = [
            variance * np.exp(distance * (-0.5 / scale**2))
            for distance, scale, variance in zip(distances, kernel.scales, kernel.variances, strict=True)
        ]
        factor = cholesky(sum(parts) + (kernel.noise + SMALLEST_NOISE) * identity, lower=True, check_finite=False)
        weights = cho_solve((factor, True), values, check_finite=False)
        # The gradient of the negative log-likelihood along K is (inverse - weights weights') / 2.
        slope = 0.5 * (cho_solve((factor, True), identity, check_finite=False) - np.outer(weights, weights))
        along_parts = [slope * part for part in parts]
        gradient = [
            *(
                float((part * distance).sum()) / scale**2
                for part, distance, scale in zip(along_parts, distances, kernel.scales, strict=True)
            ),
            *(float(part.sum()) for part in along_parts),
            float(np.trace(slope)) * kernel.noise,
        ]
        pull = (theta - center) / widths
        likelihood = 0.5 * float(values @ weights) + float(np.log(np.diag(factor)).sum())
        return likelihood + 0.5 * float(pull @ pull), np.array(gradient) + pull / widths

    limits = list(zip(center - 4, center + 4, strict=True))
    optimum = minimize(loss, _pack(start), jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": steps})
    return _unpack(optimum.x, groups)


def _pack(kernel: Kernel) -> Array:
    return np.log([*kernel.scales, *kernel.variances, kernel.noise])


def _unpack(theta: Array, groups: int) -> Kernel:
    numbers = np.exp(theta).tolist()
    return Kernel(tuple(numbers[:groups]), tuple(numbers[groups:-1]), numbers[-1])


class Posterior:
    """The process after some points were observed, at a fixed set of candidates.

    It keeps the lower triangular factor L of the covariance of the n observed points, noise included, and the array
    L^-1 K(observed, candidates). One more point adds one row to both: n * (n + m) operations for m candidates, where
    starting anew takes n^2 * (n + m). Variances do not depend on the values, so these are given when means are asked.

    Args:
        kernel: Kernel of the process.
        candidates: Points (m) at which means and variances are computed.
    """

    def __init__(self, kernel: Kernel, candidates: Groups) -> None:
        self.kernel, self.candidates = kernel, candidates
        self.names: list[Hashable] = []
        self.points: Groups = tuple(np.zeros((0, group.shape[1])) for group in candidates)
        self._factor, self._rows = np.zeros((0, 0)), np.zeros((0, len(candidates[0])))
        self._explained = np.zeros(len(candidates[0]))

    def observe(self, names: Sequence[Hashable], points: Groups) -> None:
        """Make these n points, identified by name, the observed ones in this order.

        Where they begin as the last ones did, that part of the work is kept.
        """
        pairs = zip(self.names, names, strict=False)
        same = next((at for at, (old, new) in enumerate(pairs) if old != new), min(len(self.names), len(names)))
        dropped_rows = self._rows[same : len(self.names)]
        self._explained -= np.einsum("ij,ij->j", dropped_rows, dropped_rows)
        self._reserve(same, len(names))
        if same < len(names):
            self._append(same, points)
        self.names, self.points = list(names), points

    def mean(self, values: Array) -> Array:
        """(m,) expected values at the candidates, given those of the first points that are observed.

        The other points are believed to have the values that the first ones make expected, which changes no mean.
        """
        means: Array = self._whitened(values) @ self._rows[: len(values)]
        return means

    def deviation(self) -> Array:
        """(m,) standard deviations of the function at the candidates."""
        deviation: Array = np.sqrt(np.maximum(self.kernel.variance - self._explained, 1e-12))
        return deviation

    def believed(self, values: Array) -> Array:
        """(n - k,) expected values of the function at the other observed points, given those of the first k."""
        count = len(values)
        across: Array = self._factor[count : len(self.names), :count] @ self._whitened(values)
        return across

    def mean_at_observed(self, values: Array) -> Array:
        """(k,) expected values of the function at the k first observed points, whose values these are."""
        factor = self._factor[: len(values), : len(values)]
        weights = solve_triangular(factor, self._whitened(values), lower=True, trans="T", check_finite=False)
        # (K + noise) weights = values, so K weights is what the noise leaves of them.
        smoothed: Array = values - (self.kernel.noise + SMALLEST_NOISE) * weights
        return smoothed

    def _whitened(self, values: Array) -> Array:
        factor = self._factor[: len(values), : len(values)]
        white: Array = solve_triangular(factor, values, lower=True, check_finite=False)
        return white

    def _reserve(self, same: int, count: int) -> None:
        """Room for `count` points, of which the first `same` are kept."""
        if count <= len(self._factor):
            return
        size = max(count, 3 * len(self._factor) // 2, 32)
        factor, rows = np.zeros((size, size)), np.zeros((size, self._rows.shape[1]))
        factor[:same, :same], rows[:same] = self._factor[:same, :same], self._rows[:same]
        self._factor, self._rows = factor, rows

    def _append(self, same: int, points: Groups) -> None:
        """The block step of a Cholesky factorization, for all points from `same` on."""
        old, new = tuple(group[:same] for group in points), tuple(group[same:] for group in points)
        count = len(points[0])
        factor, rows = self._factor, self._rows
        covariance = self.kernel(new, new)
        covariance[np.diag_indices_from(covariance)] += self.kernel.noise + SMALLEST_NOISE
        across = self.kernel(new, self.candidates)
        if same:
            left = solve_triangular(factor[:same, :same], self.kernel(old, new), lower=True, check_finite=False).T
            covariance -= left @ left.T
            across -= left @ rows[:same]
            factor[same:count, :same] = left
        corner = cholesky(covariance, lower=True, check_finite=False)
        factor[same:count, same:count] = corner
        rows[same:count] = solve_triangular(corner, across, lower=True, check_finite=False)
        self._explained += np.einsum("ij,ij->j", rows[same:count], rows[same:count])
