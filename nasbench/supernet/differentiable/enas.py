"""ENAS: an LSTM draws architectures that share weights, and learns by REINFORCE (Pham et al. 2018, arXiv 1802.03268).

Each step of the weights trains the architecture that the LSTM draws; each step of the LSTM ascends the gradient of the
expected quality of such an architecture on a batch of held back examples, less a moving average of those before it. At
the end several are drawn, and the best one on such a batch is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from controllers.baseline import Baseline
from controllers.policy import LSTMLearner, draw
from nasbench.supernet.differentiable.method import Method, Step
from nasbench.supernet.differentiable.mixed import EdgeWeights
from nasbench_registry import UserError
from search_spaces import Architecture, EdgeSpace
from search_spaces.edges import Strengths

SHOWN = 100  # architectures that are drawn to tell what the LSTM prefers


class ENAS(Method):
    """An LSTM over the decisions of the space, that of controller `reinforce`.

    Deviations from the paper: steps of weights and of the LSTM alternate one by one, not an epoch each; and the policy
    has no attention over earlier nodes.

    Args:
        space: Search space whose edges are decided.
        seed: Random seed of the LSTM and of what it draws.
        hidden: Size of the LSTM.
        policy_rate: Learning rate of its Adam.
        baseline_decay: Decay of the moving average.
        entropy: Weight of the entropy bonus.
        samples: Number of architectures that are drawn to derive one.
    """

    name = "enas"
    summary = "an LSTM draws architectures with shared weights; REINFORCE on held back batches"
    source = "Pham et al. 2018, arXiv 1802.03268"
    epochs = 150

    def __init__(
        self,
        space: EdgeSpace,
        *,
        seed: int,
        hidden: int = 64,
        policy_rate: float = 0.001,
        baseline_decay: float = 0.95,
        entropy: float = 0.0001,
        samples: int = 100,
    ) -> None:
        super().__init__(space, seed=seed)
        if hidden < 1 or policy_rate <= 0 or not 0 <= baseline_decay < 1 or entropy < 0 or samples < 1:
            raise UserError(
                f"hidden={hidden}, policy_rate={policy_rate}, baseline_decay={baseline_decay}, entropy={entropy}, "
                f"samples={samples} of controller 'enas': hidden and samples must be 1 or more, the rate above 0, the "
                f"decay from 0 to below 1, the entropy 0 or more."
            )
        self.policy = LSTMLearner(space, hidden, policy_rate, seed)
        self.baseline = Baseline(baseline_decay)
        self.entropy, self.samples = entropy, samples
        self.rng = np.random.default_rng(seed)
        self.drawn = draw(self.policy, space, self.rng)

    def weights(self) -> list[EdgeWeights]:
        """One operation on each edge, of an architecture that is drawn."""
        self.drawn = draw(self.policy, self.space, self.rng)
        operations = self.space.operations_of(self.drawn)
        return [EdgeWeights(only=operations[edge.name]) for edge in self.edges]

    def gradients(self, step: Step) -> None:
        """One step of the LSTM, with an Adam of its own; there are no other parameters."""
        quality = step.val_quality()  # of a new architecture, which `weights` draws
        self.policy.ascend(self.drawn.picks, self.baseline.advantage((quality,)), self.entropy)

    def parameters(self) -> list[Any]:
        """None: the LSTM has its own optimizer."""
        return []

    def strengths(self) -> Strengths:
        """How often each operation is drawn."""
        rng = np.random.default_rng(0)  # what is only reported leaves the search as it was
        counts = {edge.name: np.zeros(len(edge.operations)) for edge in self.edges}
        for _ in range(SHOWN):
            for name, operation in self.space.operations_of(draw(self.policy, self.space, rng)).items():
                counts[name][operation] += 1 / SHOWN
        return counts

    def derive(self, quality: Callable[[Architecture], float]) -> Architecture:
        """The best of `samples` architectures, by the shared weights."""
        drawn = dict.fromkeys(draw(self.policy, self.space, self.rng) for _ in range(self.samples))
        return max(drawn, key=quality)

    def state(self) -> dict[str, Any]:
        """The LSTM with its Adam, the moving average, and the random numbers."""
        return {
            "policy": self.policy.to_json(),
            "baseline": self.baseline.to_json(),
            "rng": self.rng.bit_generator.state,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave."""
        self.policy.load_json(state["policy"])
        self.baseline.load_json(state["baseline"])
        self.rng.bit_generator.state = dict(state["rng"])
