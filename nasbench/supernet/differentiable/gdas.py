"""GDAS: one operation of each edge is drawn by the Gumbel-max trick (Dong & Yang 2019, arXiv 1910.04465).

For each forward pass and edge, with g of a standard Gumbel distribution and a temperature tau that falls linearly:

    soft = softmax((log_softmax(alpha) + g) / tau),    hard = one-hot of the largest of soft

The forward pass computes the operation of `hard` alone; the backward pass goes through `soft`, as in the paper by the
operation that was computed: d loss / d alpha = (d loss / d hard[chosen]) * (d soft[chosen] / d alpha).
"""

from __future__ import annotations

import torch
from torch import nn

from nasbench.supernet.differentiable.method import Method
from nasbench.supernet.differentiable.mixed import EdgeWeights
from nasbench_registry import UserError
from search_spaces import EdgeSpace


class GDAS(Method):
    """The fixed reduction cell of the paper (GDAS with FRC) is left out: a space says which edges there are.

    Args:
        space: Search space whose edges are mixed.
        seed: Random seed of the first parameters.
        hottest: Temperature tau at the beginning.
        coldest: Temperature tau at the end.
    """

    name = "gdas"
    summary = "one drawn operation an edge, Gumbel-softmax with a straight-through gradient"
    source = "Dong & Yang 2019, arXiv 1910.04465"
    epochs = 250

    def __init__(self, space: EdgeSpace, *, seed: int, hottest: float = 10.0, coldest: float = 0.1) -> None:
        super().__init__(space, seed=seed)
        if not 0 < coldest <= hottest:
            raise UserError(
                f"hottest={hottest} and coldest={coldest} of controller 'gdas' must be above 0, and the first one no "
                f"less than the second."
            )
        self.hottest, self.coldest = hottest, coldest

    @property
    def temperature(self) -> float:
        """The temperature tau, now."""
        return self.hottest + (self.coldest - self.hottest) * self.progress

    def weights(self) -> list[EdgeWeights]:
        """One operation of each edge, with weight 1 and the gradient of the soft sample."""
        drawn = []
        for alpha in self.alphas:
            soft = nn.functional.gumbel_softmax(torch.log_softmax(alpha, 0), tau=self.temperature)
            chosen = int(soft.argmax())
            hard = nn.functional.one_hot(soft.argmax(), len(soft)).to(soft.dtype)
            drawn.append(EdgeWeights(hard - soft.detach() + soft, chosen))
        return drawn
