"""Regularized (aging) evolution (Real et al. 2019, arXiv 1802.01548)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from controllers.core import Controller, Outcome, Proposal, dominance
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace


class RegularizedEvolution(Controller):
    """Mutate the best of a random tournament; the oldest member dies.

    Deviations from the paper: with several workers, evolution begins as soon as a tournament can be filled; a
    failed candidate never enters the population; with several scores the tournament is won by the member that the
    fewest others in it dominate.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        population: Number of members that live at a time.
        tournament: Number of members that are drawn, with replacement, to find a parent.
    """

    name = "regularized_evolution"
    summary = "mutate the winner of a tournament, the oldest dies"
    source = "Real et al. 2019, arXiv 1802.01548"
    multi_objective = True

    def __init__(self, space: SearchSpace, *, seed: int, population: int = 100, tournament: int = 25) -> None:
        super().__init__(space, seed=seed)
        if not 1 <= tournament <= population:
            raise UserError(f"tournament={tournament} must be from 1 to population={population}.")
        self.tournament = tournament
        self.members: deque[tuple[Architecture, tuple[float, ...]]] = deque(maxlen=population)
        self.founders_left = population

    def lookahead(self, waiting: int) -> int:
        """The founders, which are drawn at random."""
        return max(1, self.founders_left)

    def _propose(self) -> Proposal | None:
        if self.founders_left > 0:
            self.founders_left -= 1
            return Proposal(self.space.sample(self.rng))
        if len(self.members) < self.tournament:
            return None
        rivals = [self.members[i] for i in self.rng.integers(len(self.members), size=self.tournament).tolist()]
        dominated_by = dominance(np.array([scores for _, scores in rivals])).sum(axis=0)
        parent, _ = rivals[int(dominated_by.argmin())]
        return Proposal(self.space.mutate(parent, self.rng))

    def _observe(self, outcome: Outcome) -> None:
        if outcome.scores is not None:
            self.members.append((outcome.proposal.arch, outcome.scores))
        elif len(self.members) < self.tournament:
            self.founders_left += 1  # somebody has to take the place of a founder that failed

    def _state(self) -> dict[str, Any]:
        members = [[list(arch.picks), list(scores)] for arch, scores in self.members]
        return {"members": members, "founders_left": self.founders_left}

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.members.clear()
        self.members.extend((self.space.architecture(picks), tuple(scores)) for picks, scores in state["members"])
        self.founders_left = int(state["founders_left"])
