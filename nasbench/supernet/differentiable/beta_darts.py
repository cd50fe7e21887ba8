"""beta-DARTS: DARTS of first order and one term that keeps the parameters of an edge near each other.

Ye et al. 2022, arXiv 2203.01665: to the loss on held back examples comes lambda * mean over the edges of
logsumexp(alpha), whose gradient is the softmax of alpha times lambda; so Adam pulls down most what is strongest. lambda
rises linearly from 0.
"""

from __future__ import annotations

import torch

from nasbench.supernet.differentiable.darts import DARTS
from nasbench_registry import UserError
from search_spaces import EdgeSpace


class BetaDARTS(DARTS):
    """One term over DARTS.

    Args:
        space: Search space whose edges are mixed.
        seed: Random seed of the first parameters.
        strength: Weight lambda at the end of the search; the paper's is 50.
    """

    name = "beta_darts"
    summary = "DARTS with a term that keeps operations from running away (skip connections, say)"
    source = "Ye et al. 2022, arXiv 2203.01665"

    def __init__(self, space: EdgeSpace, *, seed: int, strength: float = 50.0) -> None:
        super().__init__(space, seed=seed)
        if strength < 0:
            raise UserError(f"strength={strength} of controller 'beta_darts' must be 0 or more.")
        self.strength = strength

    def penalty(self) -> torch.Tensor:
        """Lambda * mean over the edges of logsumexp(alpha)."""
        terms = torch.stack([torch.logsumexp(alpha, 0) for alpha in self.alphas])
        return self.strength * self.progress * terms.mean()
