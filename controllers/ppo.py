"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347), for architectures as in MnasNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from controllers.baseline import Baseline
from controllers.core import Controller, Outcome, Proposal
from controllers.policy import LSTMLearner, draw
from nasbench_registry import UserError
from search_spaces import SearchSpace

Picks = tuple[int, ...]


class PPO(Controller):
    """Several steps up the clipped objective for every batch of outcomes, on the LSTM policy of `reinforce`.

    MnasNet (Tan et al. 2019, arXiv 1807.11626) searches with it. The ratio of an architecture compares the policy
    that is being trained with the one that proposed it, whenever the outcome comes back.

    Deviations from the paper: an architecture is one action with one reward, so there is no learned value function
    and no discounting: the advantage is the score less a moving average (see `Baseline`), divided by the standard
    deviation of the batch. An architecture that was never asked for is taken as proposed by the policy that
    gets its outcome. MnasNet does not print its settings; the defaults are those of PPO's paper but for the batch.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        hidden: Size of the LSTM.
        learning_rate: Learning rate of Adam.
        batch: Number of outcomes of an update.
        epochs: Number of steps of an update.
        clip: How far the ratio may move from 1 before its gradient ends, between 0 and 1.
        baseline_decay: Decay of the moving average, from 0 to below 1.
        entropy: Weight of the entropy bonus, 0 or more.
    """

    name = "ppo"
    summary = "clipped policy gradient on an LSTM policy, in batches"
    source = "Schulman et al. 2017, arXiv 1707.06347"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        hidden: int = 32,
        learning_rate: float = 0.01,
        batch: int = 8,
        epochs: int = 4,
        clip: float = 0.2,
        baseline_decay: float = 0.9,
        entropy: float = 0.01,
    ) -> None:
        super().__init__(space, seed=seed)
        if min(hidden, batch, epochs) < 1 or learning_rate <= 0 or not 0 < clip < 1:
            raise UserError(
                f"hidden={hidden}, batch={batch}, epochs={epochs}, learning_rate={learning_rate}, clip={clip}: the "
                f"first three must be 1 or more, the rate above 0, clip between 0 and 1."
            )
        if not 0 <= baseline_decay < 1 or entropy < 0:
            raise UserError(
                f"baseline_decay={baseline_decay}, entropy={entropy}: the decay must be from 0 to below 1, the "
                f"entropy 0 or more."
            )
        self.policy = LSTMLearner(space, hidden, learning_rate, seed)
        self.baseline = Baseline(baseline_decay)
        self.batch, self.epochs, self.clip, self.entropy = batch, epochs, clip, entropy
        self.proposed: dict[Picks, float] = {}  # log-probability under the policy that proposed it
        self.waiting: list[tuple[Picks, float, float]] = []  # picks, that log-probability, advantage

    def _propose(self) -> Proposal:
        arch = draw(self.policy, self.space, self.rng)
        self.proposed[arch.picks] = self._log_probability(arch.picks)
        return Proposal(arch)

    def _observe(self, outcome: Outcome) -> None:
        picks = outcome.proposal.arch.picks
        before = self.proposed.pop(picks, None)
        if before is None:
            before = self._log_probability(picks)
        self.waiting.append((picks, before, self.baseline.advantage(outcome.scores)))
        if len(self.waiting) >= self.batch:
            self._update()
            self.waiting = []

    def _log_probability(self, picks: Picks) -> float:
        with torch.no_grad():
            return float(self.policy(picks)[0])

    def _update(self) -> None:
        picks = [entry[0] for entry in self.waiting]
        before, advantages = torch.tensor([entry[1:] for entry in self.waiting]).unbind(dim=1)
        advantages = advantages / (advantages.std(correction=0) or 1.0)
        for _ in range(self.epochs):
            log_probabilities, entropies = self.policy.many(picks)
            gains = clipped((log_probabilities - before).exp(), advantages, self.clip)
            self.policy.descend(-(gains + self.entropy * entropies).mean())

    def _state(self) -> dict[str, Any]:
        return {
            "policy": self.policy.to_json(),
            "baseline": self.baseline.to_json(),
            "proposed": [[list(picks), value] for picks, value in self.proposed.items()],
            "waiting": [[list(picks), before, advantage] for picks, before, advantage in self.waiting],
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.policy.load_json(state["policy"])
        self.baseline.load_json(state["baseline"])
        self.proposed = {tuple(picks): value for picks, value in state["proposed"]}
        self.waiting = [(tuple(picks), before, advantage) for picks, before, advantage in state["waiting"]]


def clipped(ratio: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """PPO's objective: the smaller of ratio * advantage and the same with the ratio held within 1 +- clip."""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
