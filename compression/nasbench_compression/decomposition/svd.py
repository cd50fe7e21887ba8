"""Singular value decomposition: two layers in place of one.

A linear layer or a 1x1 convolution is cut as a matrix (Denil et al., NIPS 2013, arXiv:1306.0543; Denton et al., NIPS
2014, arXiv:1404.0736). Any other convolution is cut into its rows and its columns (Jaderberg et al., BMVC 2014,
arXiv:1405.3866, their second scheme): k x 1 to r channels, then 1 x k. At equal cost that keeps more components than
the cut between a k x k convolution and a 1x1 (Zhang et al., TPAMI 2016, arXiv:1505.06798): for 3x3 and equal channels
each costs six tenths.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nasbench_compression.decomposition.links import Layer, Link, channels, kernel_size
from nasbench_compression.decomposition.method import Array, Method, Ranks, is_matrix, weight_of


class SVD(Method):
    """Deviation from Jaderberg et al.: the best two filters come from the SVD, as in Tai et al. 2016 (1511.06067)."""

    name: ClassVar[str] = "svd"
    source: ClassVar[str] = "Jaderberg et al. 2014, arXiv:1405.3866; Denton et al. 2014, arXiv:1404.0736"

    def full_ranks(self, layer: Layer) -> Ranks:
        """One rank, the smaller side of the matrix."""
        inputs, outputs = channels(layer)
        height, width = kernel_size(layer)
        return (min(inputs * height, width * outputs),)

    def clip(self, layer: Layer, ranks: Ranks) -> Ranks:
        """The rank, at most the full one."""
        return (min(ranks[0], self.full_ranks(layer)[0]),)

    def links(self, layer: Layer, ranks: Ranks) -> list[Link]:
        """Two links; a 1x1 convolution has its stride in the first, where it saves work."""
        inputs, outputs = channels(layer)
        if is_matrix(layer):
            return [Link(inputs, ranks[0], vertical=True, horizontal=True), Link(ranks[0], outputs)]
        return [Link(inputs, ranks[0], vertical=True), Link(ranks[0], outputs, horizontal=True)]

    def factors(self, layer: Layer, ranks: Ranks, seed: int) -> tuple[list[Array], Array]:
        """Both factors get the square root of the singular values."""
        (matrix,) = self.unfoldings(layer)
        inputs, outputs = channels(layer)
        height, width = kernel_size(layer)
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        root = np.sqrt(values[: ranks[0]])
        left, right = left[:, : ranks[0]] * root, root[:, None] * right[: ranks[0]]
        product = (left @ right).reshape(inputs, height, width, outputs).transpose(3, 0, 1, 2)
        first = left.reshape(inputs, height, ranks[0]).transpose(2, 0, 1)
        return [first, right.reshape(ranks[0], width, outputs).transpose(2, 0, 1)], product

    def unfoldings(self, layer: Layer) -> list[Array]:
        """(in * height, width * out)."""
        inputs, outputs = channels(layer)
        height, width = kernel_size(layer)
        weight = weight_of(layer).reshape(outputs, inputs, height, width)
        return [weight.transpose(1, 2, 3, 0).reshape(inputs * height, width * outputs)]


MATRIX = SVD()
"""Method that Tucker and tensor train become where the weight is a matrix."""
