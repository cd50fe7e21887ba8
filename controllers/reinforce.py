"""REINFORCE with an LSTM or a table as its policy (Zoph & Le 2017, arXiv 1611.01578; Williams 1992)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from controllers.baseline import Baseline
from controllers.core import Controller, Outcome, Proposal
from controllers.policy import LSTMLearner, draw
from controllers.table_policy import TablePolicy
from nasbench_registry import UserError, one_of
from search_spaces import SearchSpace


class Reinforce(Controller):
    """Ascend the expected score along its gradient, one step for every outcome.

    The advantage of an architecture is its score less an exponential moving average of those before it; `Baseline`
    says what a failed one counts.

    Deviations from the paper: an update follows each outcome, not a batch of them; the skip-connection (anchor)
    part of the policy is left out, because spaces here are plain decisions; an entropy bonus may be added. The policy
    `table`, one softmax a decision, is that of the published searches on NAS-Bench-201 (Dong & Yang 2020, arXiv
    2001.00326), which use `entropy: 0` and count a score into the average before they subtract it: their advantages
    are ours times a factor that tends to `baseline_decay`, and Adam does not feel such a factor.

    Args:
        space: Search space.
        seed: Random seed of every random choice.
        policy: Policy: `lstm`, in which a choice depends on the earlier ones, or `table`, in which it does not.
        hidden: Size of the LSTM.
        learning_rate: Learning rate of Adam.
        baseline_decay: Decay of the moving average, from 0 to below 1.
        entropy: Weight of the entropy bonus, 0 or more.
    """

    name = "reinforce"
    summary = "policy gradient on an LSTM or a table, with a moving baseline"
    source = "Zoph & Le 2017, arXiv 1611.01578"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        policy: Literal["lstm", "table"] = "lstm",
        hidden: int = 32,
        learning_rate: float = 0.01,
        baseline_decay: float = 0.9,
        entropy: float = 0.001,
    ) -> None:
        super().__init__(space, seed=seed)
        one_of("policy", policy, ("lstm", "table"))
        if hidden < 1 or learning_rate <= 0 or not 0 <= baseline_decay < 1 or entropy < 0:
            raise UserError(
                f"hidden={hidden}, learning_rate={learning_rate}, baseline_decay={baseline_decay}, entropy={entropy}: "
                f"hidden must be 1 or more, the rate above 0, the decay from 0 to below 1, the entropy 0 or more."
            )
        self.policy: LSTMLearner | TablePolicy
        if policy == "lstm":
            self.policy = LSTMLearner(space, hidden, learning_rate, seed)
        else:
            self.policy = TablePolicy(space, learning_rate, self.rng)
        self.baseline, self.entropy = Baseline(baseline_decay), entropy

    def _propose(self) -> Proposal:
        return Proposal(draw(self.policy, self.space, self.rng))

    def _observe(self, outcome: Outcome) -> None:
        self.policy.ascend(outcome.proposal.arch.picks, self.baseline.advantage(outcome.scores), self.entropy)

    def _state(self) -> dict[str, Any]:
        return {"policy": self.policy.to_json(), "baseline": self.baseline.to_json()}

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.policy.load_json(state["policy"])
        self.baseline.load_json(state["baseline"])
