"""A policy of one softmax a decision, as in the searches of NAS-Bench-201 (Dong & Yang 2020, arXiv 2001.00326)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces import SearchSpace

DECAY, SQUARE_DECAY, EPSILON = 0.9, 0.999, 1e-8  # of Adam (Kingma & Ba 2015, arXiv 1412.6980)

Floats = npt.NDArray[np.float64]


class TablePolicy:
    """A distribution over architectures in which every decision stands for itself; the gradient is written out.

    Tables have the shape (decisions, largest number of options). Places behind the options of a decision hold minus
    infinity, hence have probability and gradient zero. A decision that does not matter in an architecture has no
    part in its log-probability.

    Args:
        space: Search space whose decisions it takes.
        learning_rate: Learning rate of Adam.
        rng: Random generator of the first logits, which are normal with the deviation 0.001.
    """

    def __init__(self, space: SearchSpace, learning_rate: float, rng: np.random.Generator) -> None:
        self.layout, self.learning_rate = space.layout, learning_rate
        sizes = np.array(space.layout.sizes)
        self.last, self.rows = sizes - 1, np.arange(len(sizes))
        self.open = np.arange(sizes.max()) < sizes[:, None]
        self.logits = np.where(self.open, 1e-3 * rng.standard_normal(self.open.shape), -np.inf)
        self.mean, self.square = np.zeros_like(self.logits), np.zeros_like(self.logits)
        self.steps = 0
        self._refresh()

    def _refresh(self) -> None:
        raised = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        self.probabilities = raised / raised.sum(axis=1, keepdims=True)
        self._reached = self.probabilities.cumsum(axis=1)

    def sample(self, rng: np.random.Generator) -> tuple[int, ...]:
        """The picks of one architecture, drawn from the policy with `rng`."""
        passed = (self._reached <= rng.random((len(self.rows), 1))).sum(axis=1)
        return tuple(np.minimum(passed, self.last).tolist())

    def __call__(self, picks: Sequence[int]) -> tuple[float, float]:
        """The log-probability of an architecture and the sum of the entropies of its decisions."""
        flags = np.array(self.layout.active(picks))
        chosen = self.probabilities[self.rows, list(picks)]
        return float(np.log(chosen)[flags].sum()), float(self._entropies()[flags].sum())

    def _entropies(self) -> Floats:
        logs = np.log(self.probabilities, where=self.probabilities > 0, out=np.zeros_like(self.probabilities))
        entropies: Floats = -(self.probabilities * logs).sum(axis=1)
        return entropies

    def ascend(self, picks: Sequence[int], advantage: float, entropy: float) -> None:
        """One step of Adam up the gradient of advantage * log-probability + entropy * entropies."""
        gradient = -advantage * self.probabilities
        gradient[self.rows, list(picks)] += advantage
        if entropy:
            logs = np.log(self.probabilities, where=self.probabilities > 0, out=np.zeros_like(self.probabilities))
            gradient -= entropy * self.probabilities * (logs + self._entropies()[:, None])
        if self.layout.conditional:
            gradient *= np.array(self.layout.active(picks))[:, None]
        self.steps += 1
        self.mean += (1 - DECAY) * (gradient - self.mean)
        self.square += (1 - SQUARE_DECAY) * (gradient * gradient - self.square)
        rate = self.learning_rate / (1 - DECAY**self.steps)
        scale = np.sqrt(self.square / (1 - SQUARE_DECAY**self.steps)) + EPSILON
        self.logits += rate * self.mean / scale
        self._refresh()

    def to_json(self) -> dict[str, Any]:
        """Logits and the state of Adam, as lists over the options of all decisions in order."""
        tables = {"logits": self.logits, "mean": self.mean, "square": self.square}
        return {**{name: table[self.open].tolist() for name, table in tables.items()}, "steps": self.steps}

    def load_json(self, state: Mapping[str, Any]) -> None:
        """Restore what `to_json` gave."""
        for name, table in {"logits": self.logits, "mean": self.mean, "square": self.square}.items():
            table[self.open] = state[name]
        self.steps = int(state["steps"])
        self._refresh()
