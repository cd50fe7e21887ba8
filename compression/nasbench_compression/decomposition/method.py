"""Interface of a method of decomposition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nasbench_compression.decomposition.links import Layer, Link, build, weight_shape

Array = NDArray[np.float64]
Ranks = tuple[int, ...]


class Method(ABC):
    """One way to write a weight as a product.

    Attributes:
        name: Value of the option `method`.
        linear: Whether it also writes linear layers.
        source: Paper of the method.
    """

    name: ClassVar[str]
    linear: ClassVar[bool] = True
    source: ClassVar[str]

    def refuses(self, layer: Layer) -> str | None:
        """Why the layer has no such form, or None."""
        return None

    @abstractmethod
    def full_ranks(self, layer: Layer) -> Ranks:
        """Ranks at which the form is exact for any weight."""

    @abstractmethod
    def clip(self, layer: Layer, ranks: Ranks) -> Ranks:
        """The ranks, lowered to what they can be beside each other."""

    @abstractmethod
    def links(self, layer: Layer, ranks: Ranks) -> list[Link]:
        """The chain that stands for the layer; `ranks` as `clip` gives them."""

    @abstractmethod
    def factors(self, layer: Layer, ranks: Ranks, seed: int) -> tuple[list[Array], Array]:
        """Weights of the links, each of as many values in the order of its weight, and the weight that they make up."""

    @abstractmethod
    def unfoldings(self, layer: Layer) -> list[Array]:
        """Matrices whose ranks say what the ranks of the form should be."""

    def from_unfoldings(self, layer: Layer, ranks: Sequence[int]) -> Ranks:
        """The ranks of the form from those of `unfoldings`."""
        return self.clip(layer, tuple(max(1, rank) for rank in ranks))

    def report(self, chain: nn.Sequential) -> dict[str, float]:
        """Entries of the note about a chain, besides its ranks and error."""
        return {}

    def same(self, layer: Layer, rank: int) -> Ranks:
        """The ranks of the form if the user gives one number."""
        return self.clip(layer, tuple(min(rank, full) for full in self.full_ranks(layer)))

    def steps(self, layer: Layer) -> int:
        """How many sets of ranks `at_step` knows."""
        return max(self.full_ranks(layer))

    def at_step(self, layer: Layer, step: int) -> Ranks:
        """Ranks in proportion to the full ones; those of step `steps` are the full ones, none falls with the step."""
        steps = self.steps(layer)
        return self.clip(layer, tuple(-(-full * step // steps) for full in self.full_ranks(layer)))


def weight_of(layer: Layer) -> Array:
    """The weight in float64, (out, in, height, width) or (out, in)."""
    return layer.weight.detach().double().cpu().numpy()


def is_matrix(layer: Layer) -> bool:
    """Whether the weight is a matrix: a linear layer, or a convolution with a 1x1 kernel."""
    return isinstance(layer, nn.Linear) or layer.kernel_size == (1, 1)


def decompose_layer(method: Method, layer: Layer, ranks: Ranks, seed: int = 0) -> tuple[nn.Sequential, float]:
    """The layer as a chain of smaller ones.

    Args:
        method: Method of decomposition.
        layer: Layer to be decomposed, with a convolution without groups; it is not changed.
        ranks: Ranks as `Method.clip` gives them.
        seed: Random seed of the starts, where there are any.

    Returns:
        The chain, and ||W - W'|| / ||W|| in the Frobenius norm; 0 for a weight of zeros.
    """
    weight = weight_of(layer)
    links = method.links(layer, ranks)
    factors, product = method.factors(layer, ranks, seed)
    chain = build(layer, links)
    with torch.no_grad():
        for module, link, factor in zip(chain, links, factors, strict=True):
            values = np.ascontiguousarray(factor.reshape(weight_shape(layer, link)))
            module.weight.copy_(torch.from_numpy(values))  # type: ignore[operator]  # a convolution or a linear layer
        if layer.bias is not None:
            chain[-1].bias.copy_(layer.bias)  # type: ignore[operator]  # the last one has a bias if `layer` has
    norm = float(np.linalg.norm(weight))
    return chain, float(np.linalg.norm(weight - product.reshape(weight.shape))) / norm if norm else 0.0
