"""CP decomposition of convolutions, after Lebedev et al., ICLR 2015, arXiv:1412.6553."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import tensorly
from tensorly.cp_tensor import CPTensor, cp_to_tensor
from tensorly.decomposition import parafac
from torch import nn

from nasbench_compression.decomposition.error_preserving import correct, sensitivity
from nasbench_compression.decomposition.links import Layer, Link, channels, kernel_size
from nasbench_compression.decomposition.method import Array, Method, Ranks, is_matrix, weight_of
from nasbench_registry import UserError

_SWEEPS = 100
_CHEAP = 5_000  # weights up to which several starts are affordable: a 64x64x3x3 weight takes seconds for each
_STARTS = 3
_RIDGE = 1e-10  # keeps the least squares solvable where the weight has fewer components than the rank
_SLACK = 0.001  # by which the correction may exceed the error of least squares, relative to it
_LEAST_ERROR = 1e-6  # that the correction aims at, about what float32 can hold
_CORRECTIONS = 20


def cp_factors(weight: Array, rank: int, seed: int) -> tuple[list[Array], float]:
    """Factors of a tensor and the error that they leave, the best of several starts, made stable.

    Alternating least squares of tensorly in float64, which ends in a local optimum: small weights start three times,
    twice from Gaussian factors and once from singular vectors, large ones from Gaussian factors only. Then the error
    preserving correction of Phan et al. 2020 (`error_preserving`) makes the factors as insensitive as an error of a
    thousandth more allows.

    Args:
        weight: Tensor of any number of dimensions d.
        rank: Number of components R.
        seed: Random seed of the starts.

    Returns:
        d matrices (size of the dimension, R), with the scale of a component spread evenly over them, and the
        relative error ||W - W'|| / ||W|| in the Frobenius norm.

    Raises:
        UserError: No start converges.
    """
    rng = np.random.default_rng(seed)
    norm = float(np.linalg.norm(weight))
    if norm == 0:
        return [np.zeros((size, rank)) for size in weight.shape], 0.0
    best: tuple[float, list[Array]] | None = None
    with tensorly.backend.backend_context("numpy", local_threadsafe=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the rank exceeds a side of the kernel, which is as it should be
        for start in range(_STARTS if weight.size <= _CHEAP else 1):
            gaussian = CPTensor((np.ones(rank), [rng.standard_normal((size, rank)) for size in weight.shape]))
            try:
                weights, factors = parafac(
                    weight / norm,
                    rank,
                    n_iter_max=_SWEEPS,
                    init="svd" if start == 2 else gaussian,
                    random_state=int(rng.integers(2**31)),
                    l2_reg=_RIDGE,
                )
            except np.linalg.LinAlgError:  # a singular system; another start may do
                continue
            weights = weights * norm
            error = float(np.linalg.norm(weight - cp_to_tensor((weights, factors)))) / norm
            if math.isfinite(error) and (best is None or error < best[0]):
                best = error, _balanced(weights, factors)
        if best is None:
            raise UserError(
                f"CP decomposition with rank {rank} diverges on a weight of shape {weight.shape}; lower rank."
            )
        bound = max(best[0] * (1 + _SLACK), _LEAST_ERROR)
        corrected = _balanced(np.ones(rank), correct(weight, best[1], bound, _CORRECTIONS))
        error = float(np.linalg.norm(weight - cp_to_tensor((None, corrected)))) / norm
    return corrected, error


def _balanced(weights: Array, factors: list[Array]) -> list[Array]:
    """Give each factor the same share of a component's scale, so that float32 and fine-tuning can handle it."""
    norms = np.stack([np.linalg.norm(factor, axis=0) for factor in factors])
    share = np.abs(weights * norms.prod(axis=0)) ** (1 / len(factors))
    balanced = [factor / np.maximum(norm, 1e-300) * share for factor, norm in zip(factors, norms, strict=True)]
    balanced[0] = balanced[0] * np.sign(weights)
    return balanced


class CP(Method):
    """For a 3x3 kernel, 16 -> 32 channels, rank 8: 1x1 to 8; 3x1 and 1x3 on each of the 8; 1x1 to 32.

    A side of length one needs no link of its own, but keeps its stride and padding in the other one. Deviations from
    Lebedev et al.: alternating least squares in place of non-linear least squares, from several starts, with a
    correction afterwards (`cp_factors`); all layers are replaced at once.
    """

    name: ClassVar[str] = "cp"
    linear: ClassVar[bool] = False  # CP of a matrix is its SVD
    source: ClassVar[str] = "Lebedev et al. 2015, arXiv:1412.6553; Phan et al. 2020, arXiv:2008.05441"

    def refuses(self, layer: Layer) -> str | None:
        """Reason why a layer whose weight is a matrix has no such form."""
        return "its kernel is 1x1" if is_matrix(layer) else None

    def full_ranks(self, layer: Layer) -> Ranks:
        """All sides but the largest, multiplied: least squares for the largest then has an exact solution."""
        return (layer.weight.numel() // max(layer.weight.shape),)

    def clip(self, layer: Layer, ranks: Ranks) -> Ranks:
        """Any number of components will do."""
        return ranks

    def same(self, layer: Layer, rank: int) -> Ranks:
        """The number of components."""
        return (rank,)

    def links(self, layer: Layer, ranks: Ranks) -> list[Link]:
        """Four, or three if one side of the kernel is one."""
        (inputs, outputs), (rank,) = channels(layer), ranks
        middle = [Link(rank, rank, vertical=True, horizontal=True, depthwise=True)]
        if 1 not in kernel_size(layer):
            middle = [
                Link(rank, rank, vertical=True, depthwise=True),
                Link(rank, rank, horizontal=True, depthwise=True),
            ]
        return [Link(inputs, rank), *middle, Link(rank, outputs)]

    def factors(self, layer: Layer, ranks: Ranks, seed: int) -> tuple[list[Array], Array]:
        """See `Method.factors`."""
        weight = self._kernel(layer)
        (last, first, *middle), _ = cp_factors(weight, ranks[0], seed)
        with tensorly.backend.backend_context("numpy", local_threadsafe=True):
            product = cp_to_tensor((None, [last, first, *middle]))
        return [first.T, *(factor.T for factor in middle), last], product

    def unfoldings(self, layer: Layer) -> list[Array]:
        """(out, rest) and (in, rest); the sides of the kernel are too short to say anything."""
        weight = self._kernel(layer)
        return [np.moveaxis(weight, mode, 0).reshape(weight.shape[mode], -1) for mode in (0, 1)]

    def from_unfoldings(self, layer: Layer, ranks: Sequence[int]) -> Ranks:
        """The largest: a tensor has no fewer components than any of its unfoldings has ranks."""
        return (max(ranks),)

    def report(self, chain: nn.Sequential) -> dict[str, float]:
        """The sensitivity of the factors."""
        *earlier_factors, last = (module.weight.detach().double().cpu().flatten(1).numpy() for module in chain)  # type: ignore[operator]  # convolutions
        return {"sensitivity": sensitivity([last, *(factor.T for factor in earlier_factors)])}

    @staticmethod
    def _kernel(layer: Layer) -> Array:
        """(out, in, and the sides of the kernel that are longer than one)."""
        return weight_of(layer).reshape(*channels(layer)[::-1], *(side for side in kernel_size(layer) if side > 1))
