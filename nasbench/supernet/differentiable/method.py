"""The contract of a differentiable method: how operations are mixed, and what moves its parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from nasbench.supernet.differentiable.mixed import EdgeWeights
from search_spaces import Architecture, EdgeSpace
from search_spaces.edges import Strengths


@dataclass(frozen=True)
class Step:
    """The values that a method may read before the weights take a step.

    Attributes:
        train_loss: Loss of the examples of that step, with the mixture that the method gives now; a scalar with a
            graph.
        val_loss: Loss of other examples, held back for the parameters of the method, likewise.
        val_quality: Quality of the same examples, without a graph: larger is better, between 0 and 1 where targets are
            classes.
        parameters: Weights of the network.
        rate: Learning rate of the step.
        updates: Function of the gradients of weights: what the step would subtract from each, per unit of the learning
            rate.
    """

    train_loss: Callable[[], torch.Tensor]
    val_loss: Callable[[], torch.Tensor]
    val_quality: Callable[[], float]
    parameters: Sequence[nn.Parameter]
    rate: float
    updates: Callable[[Mapping[nn.Parameter, torch.Tensor]], Mapping[nn.Parameter, torch.Tensor]]


class Method(ABC):
    """A method has parameters, one for each operation of each edge, and moves them by gradients that it sets.

    Here they move down the gradient of the loss on held back examples, and of `penalty` (DARTS of first order).

    Args:
        space: Search space whose edges are mixed.
        seed: Random seed of every random choice that is not drawn from the global generator of torch, which belongs to
            the training while it runs.

    Attributes:
        alphas: (operations,) parameters of each edge.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    epochs: ClassVar[int] = 50
    """Number of epochs of the paper's search."""
    multi_objective: ClassVar[bool] = True
    """As a controller it takes several scores, for it learns from none."""
    multi_fidelity: ClassVar[bool] = False

    def __init__(self, space: EdgeSpace, *, seed: int) -> None:
        self.space = space
        self.edges = space.edges()
        generator = torch.Generator().manual_seed(seed)
        self.alphas = nn.ParameterList(
            nn.Parameter(1e-3 * torch.randn(len(edge.operations), generator=generator)) for edge in self.edges
        )
        self.progress = 0.0
        """Share of the epochs in which the parameters move that is done when an epoch begins: from 0 to 1."""

    @abstractmethod
    def weights(self) -> list[EdgeWeights]:
        """How the edges are mixed in one forward pass; drawn from the global generator of torch, if drawn."""

    def begin_epoch(self, progress: float) -> None:
        """Called with the share of the epochs in which the parameters move that is done, from 0 to 1."""
        self.progress = progress

    def penalty(self) -> torch.Tensor | None:
        """The term that is added to the loss on held back examples; None is nothing."""
        return None

    def gradients(self, step: Step) -> None:
        """Set the gradients of the parameters."""
        loss, penalty = step.val_loss(), self.penalty()
        total = loss if penalty is None else loss + penalty
        self.set_gradients(torch.autograd.grad(total, list(self.alphas), allow_unused=True))

    def set_gradients(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """Give each of the parameters its gradient; None is zero, of an edge whose output went nowhere."""
        for alpha, gradient in zip(self.alphas, gradients, strict=True):
            alpha.grad = torch.zeros_like(alpha) if gradient is None else gradient.detach().clone()

    def strengths(self) -> Strengths:
        """How much each operation of an edge is preferred: here the softmax of its parameters."""
        return {
            edge.name: torch.softmax(alpha.detach().double(), 0).cpu().numpy()
            for edge, alpha in zip(self.edges, self.alphas, strict=True)
        }

    def derive(self, quality: Callable[[Architecture], float]) -> Architecture:
        """The architecture that the parameters say now.

        Args:
            quality: Function that gives the quality of an architecture with the shared weights, on some held back
                examples; larger is better.
        """
        return self.space.derive(self.strengths())

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that an optimizer moves."""
        return list(self.alphas)

    def state(self) -> dict[str, Any]:
        """The state of `weights` and `derive` beside the parameters, as JSON values."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027  # most keep nothing beside their parameters
        """Restore what `state` gave."""
