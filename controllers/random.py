"""Random search: the baseline that every other controller has to beat (Li & Talwalkar 2019, arXiv 1902.07638)."""

from __future__ import annotations

import sys

from controllers.core import Controller, Proposal


class Random(Controller):
    """Draws architectures uniformly, with repetition, and learns nothing."""

    name = "random"
    summary = "uniform draws, the baseline"
    source = "Li & Talwalkar 2019, arXiv 1902.07638"
    multi_objective = True

    def lookahead(self, waiting: int) -> int:
        """No proposal depends on an outcome."""
        return sys.maxsize

    def _propose(self) -> Proposal:
        return Proposal(self.space.sample(self.rng))
