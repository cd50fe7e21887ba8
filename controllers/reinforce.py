"""REINFORCE with an LSTM policy (Zoph & Le 2017, arXiv 1611.01578; Williams 1992)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from controllers.core import Controller, Outcome, Proposal
from controllers.policy import LSTMPolicy, tensors_to_text, text_to_tensors
from nasbench_registry import UserError
from search_spaces import Architecture, NoValidArchitecture, SearchSpace
from search_spaces.core import MAX_TRIES


class Reinforce(Controller):
    """Ascend the expected score along its gradient, one step for every outcome.

    The advantage of an architecture is its score less an exponential moving average of the successful scores
    before it (0 for the first). A failed candidate counts as a score as far below the worst success as the best one
    lies above it, or 1 below if there is no spread yet: its advantage is always negative, so the policy learns to
    avoid what fails.

    Deviations from the paper: an update follows each outcome, not a batch of them; the skip-connection (anchor)
    part of the policy is left out, because spaces here are plain decisions; an entropy bonus may be added.

    Args:
        space: what is searched.
        seed: of every random choice.
        hidden: size of the LSTM.
        learning_rate: of Adam.
        baseline_decay: of the moving average, from 0 to below 1.
        entropy: weight of the entropy bonus, 0 or more.
    """

    name = "reinforce"
    summary = "policy gradient on an LSTM policy with a moving baseline"
    source = "Zoph & Le 2017, arXiv 1611.01578"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        hidden: int = 32,
        learning_rate: float = 0.01,
        baseline_decay: float = 0.9,
        entropy: float = 0.001,
    ) -> None:
        super().__init__(space, seed=seed)
        if hidden < 1 or learning_rate <= 0 or not 0 <= baseline_decay < 1 or entropy < 0:
            raise UserError(
                f"hidden={hidden}, learning_rate={learning_rate}, baseline_decay={baseline_decay}, entropy={entropy}: "
                f"hidden must be 1 or more, the rate above 0, the decay from 0 to below 1, the entropy 0 or more."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.policy = LSTMPolicy(space, hidden)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=learning_rate)
        self.baseline_decay, self.entropy = baseline_decay, entropy
        self.average, self.average_weight = 0.0, 0.0
        self.worst: float | None = None
        self.best: float | None = None

    def _propose(self) -> Proposal:
        for _ in range(MAX_TRIES):
            arch = Architecture(self.space.name, self.policy.sample(self.rng))
            if self.space.is_valid(arch):
                return Proposal(arch)
        raise NoValidArchitecture(f"the policy gave no valid architecture of {self.space.name!r} in {MAX_TRIES} draws.")

    def _observe(self, outcome: Outcome) -> None:
        advantage = self._advantage(outcome.scores)
        log_probability, entropy = self.policy(outcome.proposal.arch.picks)
        loss = -advantage * log_probability - self.entropy * entropy
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _advantage(self, scores: tuple[float, ...] | None) -> float:
        # Dividing by the weight removes the pull towards the zero that the average starts from.
        baseline = self.average / self.average_weight if self.average_weight else None
        if scores is None:
            if baseline is None or self.worst is None or self.best is None:
                return -1.0
            return self.worst - ((self.best - self.worst) or 1.0) - baseline
        score = scores[0]
        self.worst = score if self.worst is None else min(self.worst, score)
        self.best = score if self.best is None else max(self.best, score)
        self.average = self.baseline_decay * self.average + (1 - self.baseline_decay) * score
        self.average_weight = self.baseline_decay * self.average_weight + (1 - self.baseline_decay)
        return 0.0 if baseline is None else score - baseline

    def _state(self) -> dict[str, Any]:
        moments = {
            f"{index}.{key}": value
            for index, state in self.optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }
        return {
            "policy": tensors_to_text(self.policy.state_dict()),
            "adam": tensors_to_text(moments),
            "average": [self.average, self.average_weight],
            "range": [self.worst, self.best],
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.policy.load_state_dict(text_to_tensors(state["policy"]))
        adam = self.optimizer.state_dict()
        adam["state"] = {}
        for key, value in text_to_tensors(state["adam"]).items():
            index, name = key.split(".", 1)
            adam["state"].setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict(adam)
        self.average, self.average_weight = map(float, state["average"])
        self.worst, self.best = state["range"]
