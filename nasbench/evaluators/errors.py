"""How an evaluation may end before its time."""

from __future__ import annotations

from nasbench.evaluators.outcomes import Ending
from nasbench.objectives.metrics import Metrics


class InfeasibleError(Exception):
    """The candidate breaks a hard limit; that is no failure of the machinery.

    Attributes:
        metrics: Metrics that were known of the candidate.
        ending: Stage of the evaluation that ended it.
        violation: How far the candidate is beyond the limits, see `nasbench.objectives.reward.violation`; None if that
            is not known.
    """

    def __init__(
        self,
        message: str,
        metrics: Metrics | None = None,
        ending: Ending | None = None,
        violation: float | None = None,
    ) -> None:
        super().__init__(message)
        self.metrics: Metrics = metrics or {}
        self.ending = ending
        self.violation = violation


class InvalidNetwork(Exception):
    """The architecture builds no network, or one that does not fit the task.

    Attributes:
        metrics: What the evaluation cost, where it is looked up: `training_seconds`, `simulated_seconds` and `cached`.
    """

    def __init__(self, message: str, metrics: Metrics | None = None) -> None:
        super().__init__(message)
        self.metrics: Metrics = metrics or {}
