"""An evaluator that costs nothing: two sums over the picks."""

from __future__ import annotations

from collections.abc import Sequence

from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.evaluator import Evaluator
from nasbench.objectives.metrics import Metrics
from search_spaces import SearchSpace, Task


def score(picks: Sequence[int]) -> float:
    """Sum that is to be large."""
    return 50.0 + sum((position % 3 - 1) * pick for position, pick in enumerate(picks))


def cost(picks: Sequence[int]) -> float:
    """Sum that is to be small."""
    return 1000.0 + sum(pick * (1 + position % 5) for position, pick in enumerate(picks))


class Constant(Evaluator):
    """Evaluator of two metrics that cost constant time, one candidate or several at once.

    Args:
        space: Space that candidates belong to.
        task: Not used.
    """

    def __init__(self, space: SearchSpace, task: Task | None = None) -> None:
        super().__init__(space, None)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the two metrics."""
        return ("score", "cost")

    def __call__(self, candidate: Candidate) -> Metrics:
        """Metrics of one candidate."""
        picks = candidate.arch.picks
        return {"score": score(picks), "cost": cost(picks)}

    def evaluate_many(self, candidates: Sequence[Candidate]) -> Sequence[Metrics | Exception]:
        """Metrics of several candidates."""
        return [self(candidate) for candidate in candidates]
