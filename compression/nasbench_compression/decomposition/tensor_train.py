"""Tensor train: a convolution as a chain of four (Oseledets, SIAM J. Sci. Comput. 33(5), 2011)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import tensorly
from tensorly.decomposition import tensor_train

from nasbench_compression.decomposition.links import Layer, Link, channels, kernel_size
from nasbench_compression.decomposition.method import Array, Method, Ranks, is_matrix, weight_of
from nasbench_compression.decomposition.svd import MATRIX


class TensorTrain(Method):
    """The train (in, height, width, out) of ranks (r1, r2, r3): 1x1 to r1, k x 1 to r2, 1 x k to r3, 1x1 to all.

    The cores are those of tensorly's `tensor_train`, TT-SVD. Where r1 is all channels in, or r3 all channels out, the
    core beside takes the 1x1 convolution in. The channels themselves are not split into factors, as Novikov et al.
    2015 (arXiv:1509.06569) do: the train of a matrix, a linear layer or a 1x1 convolution, is its SVD.
    """

    name: ClassVar[str] = "tt"
    source: ClassVar[str] = "Oseledets, Tensor-Train Decomposition, SIAM J. Sci. Comput. 33(5), 2011"

    def full_ranks(self, layer: Layer) -> Ranks:
        """Three ranks, each the smaller side of an unfolding."""
        if is_matrix(layer):
            return MATRIX.full_ranks(layer)
        inputs, outputs = channels(layer)
        return self.clip(layer, (inputs, inputs * kernel_size(layer)[0], outputs))

    def clip(self, layer: Layer, ranks: Ranks) -> Ranks:
        """No rank is larger than those beside it allow."""
        if is_matrix(layer):
            return MATRIX.clip(layer, ranks)
        inputs, outputs = channels(layer)
        height, width = kernel_size(layer)
        r1, r2, r3 = min(ranks[0], inputs), ranks[1], min(ranks[2], outputs)
        r2 = min(r2, r1 * height, width * r3)
        return min(r1, height * r2), r2, min(r3, width * r2)

    def links(self, layer: Layer, ranks: Ranks) -> list[Link]:
        """Four links, or fewer where a rank is that of all channels."""
        if is_matrix(layer):
            return MATRIX.links(layer, ranks)
        (inputs, outputs), (r1, r2, r3) = channels(layer), ranks
        links = [Link(r1, r2, vertical=True), Link(r2, r3, horizontal=True)]
        if r1 < inputs:
            links.insert(0, Link(inputs, r1))
        if r3 < outputs:
            links.append(Link(r3, outputs))
        return links

    def factors(self, layer: Layer, ranks: Ranks, seed: int) -> tuple[list[Array], Array]:
        """See `Method.factors`."""
        if is_matrix(layer):
            return MATRIX.factors(layer, ranks, seed)
        (inputs, outputs), (r1, _, r3) = channels(layer), ranks
        weight = weight_of(layer).transpose(1, 2, 3, 0)
        with tensorly.backend.backend_context("numpy", local_threadsafe=True):
            train = tensor_train(weight, [1, *ranks, 1], random_state=seed)
        first, rows, columns, last = (np.asarray(core) for core in train)
        first, last = first[0], last[..., 0]
        product = np.einsum("ia,ahb,bwc,co->oihw", first, rows, columns, last, optimize=True)
        if r1 == inputs:
            rows = np.einsum("ia,ahb->ihb", first, rows)
        if r3 == outputs:
            columns = np.einsum("bwc,co->bwo", columns, last)
        weights = [rows.transpose(2, 0, 1), columns.transpose(2, 0, 1)]
        if r1 < inputs:
            weights.insert(0, first.T)
        if r3 < outputs:
            weights.append(last.T)
        return weights, product

    def unfoldings(self, layer: Layer) -> list[Array]:
        """(in, rest), (in * height, width * out) and (rest, out)."""
        if is_matrix(layer):
            return MATRIX.unfoldings(layer)
        weight = weight_of(layer).transpose(1, 2, 3, 0)
        inputs, height, _, outputs = weight.shape
        return [weight.reshape(inputs, -1), weight.reshape(inputs * height, -1), weight.reshape(-1, outputs)]
