"""Tucker-2: a convolution between two 1x1 convolutions, after Kim et al., ICLR 2016, arXiv:1511.06530."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import tensorly
from tensorly.decomposition import partial_tucker

from nasbench_compression.decomposition.links import Layer, Link, channels, kernel_size
from nasbench_compression.decomposition.method import Array, Method, Ranks, is_matrix, weight_of
from nasbench_compression.decomposition.svd import MATRIX


class Tucker(Method):
    """Ranks are (r_out, r_in): 1x1 to r_in channels, k x k to r_out, 1x1 to all.

    The factors are those of tensorly's `partial_tucker`, higher-order orthogonal iteration from singular vectors. Where
    a rank is that of all channels, its 1x1 convolution is an orthogonal matrix that the kernel takes in (Tucker-1,
    as in the first layer of the paper). Linear layers and 1x1 convolutions have one rank, that of the SVD.
    """

    name: ClassVar[str] = "tucker"
    source: ClassVar[str] = "Kim et al. 2016, arXiv:1511.06530"

    def full_ranks(self, layer: Layer) -> Ranks:
        """(out, in), but no more than the other side of each unfolding."""
        if is_matrix(layer):
            return MATRIX.full_ranks(layer)
        inputs, outputs = channels(layer)
        return self.clip(layer, (outputs, inputs))

    def clip(self, layer: Layer, ranks: Ranks) -> Ranks:
        """The core's own unfoldings bound its ranks."""
        if is_matrix(layer):
            return MATRIX.clip(layer, ranks)
        inputs, outputs = channels(layer)
        height, width = kernel_size(layer)
        r_out, r_in = min(ranks[0], outputs), min(ranks[1], inputs)
        r_out = min(r_out, r_in * height * width)
        return r_out, min(r_in, r_out * height * width)

    def links(self, layer: Layer, ranks: Ranks) -> list[Link]:
        """Three links, or fewer where a rank is that of all channels."""
        if is_matrix(layer):
            return MATRIX.links(layer, ranks)
        (inputs, outputs), (r_out, r_in) = channels(layer), ranks
        links = [Link(r_in, r_out, vertical=True, horizontal=True)]
        if r_in < inputs:
            links.insert(0, Link(inputs, r_in))
        if r_out < outputs:
            links.append(Link(r_out, outputs))
        return links

    def factors(self, layer: Layer, ranks: Ranks, seed: int) -> tuple[list[Array], Array]:
        """See `Method.factors`."""
        if is_matrix(layer):
            return MATRIX.factors(layer, ranks, seed)
        (inputs, outputs), (r_out, r_in) = channels(layer), ranks
        weight = weight_of(layer)
        with tensorly.backend.backend_context("numpy", local_threadsafe=True), np.errstate(invalid="ignore"):  # zeros
            (core, (out_factor, in_factor)), _ = partial_tucker(weight, [r_out, r_in], modes=[0, 1], random_state=seed)
        product = np.einsum("or,rshw,is->oihw", out_factor, core, in_factor, optimize=True)
        if r_in == inputs:
            core = np.einsum("rshw,is->rihw", core, in_factor, optimize=True)
        if r_out == outputs:
            core = np.einsum("or,rihw->oihw", out_factor, core, optimize=True)
        weights = [core]
        if r_in < inputs:
            weights.insert(0, in_factor.T)
        if r_out < outputs:
            weights.append(out_factor)
        return weights, product

    def unfoldings(self, layer: Layer) -> list[Array]:
        """(out, in * height * width) and (in, out * height * width)."""
        if is_matrix(layer):
            return MATRIX.unfoldings(layer)
        weight = weight_of(layer)
        return [weight.reshape(len(weight), -1), weight.transpose(1, 0, 2, 3).reshape(weight.shape[1], -1)]
