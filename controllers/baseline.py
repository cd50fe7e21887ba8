"""How much better than usual a score is: what the policy gradient of every policy is weighted with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Baseline:
    """An exponential moving average of the successful scores, and the range that they span.

    A failed candidate counts as a score as far below the worst success as the best one lies above it, or 1 below if
    there is no spread yet: its advantage is always negative, so a policy learns to avoid what fails.

    Args:
        decay: Decay of the moving average, from 0 to below 1.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average, self.weight = 0.0, 0.0
        self.worst: float | None = None
        self.best: float | None = None

    def advantage(self, scores: tuple[float, ...] | None) -> float:
        """The score less the average of those before it (0 for the first); counts it into the average."""
        # Dividing by the weight removes the pull towards the zero that the average starts from.
        before = self.average / self.weight if self.weight else None
        if scores is None:
            if before is None or self.worst is None or self.best is None:
                return -1.0
            return self.worst - ((self.best - self.worst) or 1.0) - before
        score = scores[0]
        self.worst = score if self.worst is None else min(self.worst, score)
        self.best = score if self.best is None else max(self.best, score)
        self.average = self.decay * self.average + (1 - self.decay) * score
        self.weight = self.decay * self.weight + (1 - self.decay)
        return 0.0 if before is None else score - before

    def to_json(self) -> dict[str, Any]:
        """Everything but the decay."""
        return {"average": self.average, "weight": self.weight, "worst": self.worst, "best": self.best}

    def load_json(self, state: Mapping[str, Any]) -> None:
        """Restore what `to_json` gave."""
        self.average, self.weight = float(state["average"]), float(state["weight"])
        self.worst, self.best = state["worst"], state["best"]
