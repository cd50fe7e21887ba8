"""DrNAS: the weights of an edge are drawn from a Dirichlet distribution (Chen et al. 2021, arXiv 2006.10355).

    weights ~ Dirichlet(elu(beta) + 1),    loss = L_val + anchor * KL(Dirichlet(elu(beta) + 1) || Dirichlet(1))

with pathwise gradients through the sample. An architecture is derived of the means of the distributions.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.distributions import Dirichlet, kl_divergence

from nasbench.supernet.differentiable.method import Method
from nasbench.supernet.differentiable.mixed import EdgeWeights
from nasbench_registry import UserError
from search_spaces import EdgeSpace
from search_spaces.edges import Strengths

LEAST = 1e-6  # of a concentration, which has to be above 0


class DrNAS(Method):
    """Deviation from the paper: no progressive shrinking of operations, and all channels from the beginning.

    Args:
        space: Search space whose edges are mixed.
        seed: Random seed of the first parameters.
        anchor: Weight of the divergence from the uniform distribution.
    """

    name = "drnas"
    summary = "weights drawn from a Dirichlet distribution with pathwise gradients"
    source = "Chen et al. 2021, arXiv 2006.10355"
    epochs = 100

    def __init__(self, space: EdgeSpace, *, seed: int, anchor: float = 1e-3) -> None:
        super().__init__(space, seed=seed)
        if anchor < 0:
            raise UserError(f"anchor={anchor} of controller 'drnas' must be 0 or more.")
        self.anchor = anchor

    def concentrations(self) -> list[torch.Tensor]:
        """Elu(beta) + 1 of each edge."""
        return [nn.functional.elu(alpha).add(1).clamp(min=LEAST) for alpha in self.alphas]

    def weights(self) -> list[EdgeWeights]:
        """A sample for each edge."""
        return [EdgeWeights(Dirichlet(concentration).rsample()) for concentration in self.concentrations()]

    def penalty(self) -> torch.Tensor:
        """The divergence of all edges from the uniform distribution, added up and weighed."""
        terms = [
            kl_divergence(Dirichlet(concentration), Dirichlet(torch.ones_like(concentration)))
            for concentration in self.concentrations()
        ]
        return self.anchor * torch.stack(terms).sum()

    def strengths(self) -> Strengths:
        """The mean of the distribution of each edge."""
        return {
            edge.name: (concentration / concentration.sum()).detach().double().cpu().numpy()
            for edge, concentration in zip(self.edges, self.concentrations(), strict=True)
        }
