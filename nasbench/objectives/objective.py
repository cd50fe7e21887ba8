"""The objectives of a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from nasbench.objectives.metrics import CAPACITY, Goal, goal_of, summary_of
from nasbench_registry import UserError
from nasbench_registry.config import Strict


class Objective(Strict):
    """One metric to optimise.

    Attributes:
        metric: Its name, one of `nasbench list metrics` or of the evaluator's own.
        goal: Whether less or more of it is better.
        limit: A hard constraint, at most so much for `min` and at least so much for `max`; null sets none.
    """

    metric: Annotated[str, Field(min_length=1)]
    goal: Goal
    limit: float | None = None

    @model_validator(mode="after")
    def _sensible(self) -> Objective:
        better = goal_of(self.metric)
        if better is not None and self.goal != better and self.metric not in CAPACITY:
            raise ValueError(
                f"{self.metric} with goal {self.goal!r} asks for what is worst in {summary_of(self.metric)}; write "
                f"goal: {better}, or drop the objective."
            )
        return self


def minimize(limit: float | None = None) -> dict[str, Any]:
    """An objective whose metric shall be small.

    Args:
        limit: Largest value that a candidate may have; None allows any.
    """
    return {"goal": "min", "limit": limit}


def maximize(limit: float | None = None) -> dict[str, Any]:
    """An objective whose metric shall be large.

    Args:
        limit: Smallest value that a candidate may have; None allows any.
    """
    return {"goal": "max", "limit": limit}


def listed(objectives: Any) -> Any:
    """Objectives in their long form, a list of {metric, goal, limit}, as pydantic reads them.

    Args:
        objectives: List of objectives, or the short form {metric: "max"}, {metric: {"goal": "min", "limit": 5.0}}.

    Raises:
        UserError: A short form holds something else.
    """
    if not isinstance(objectives, Mapping):
        return objectives
    rows = []
    for metric, goal in objectives.items():
        if isinstance(goal, Objective):
            goal = goal.model_dump(exclude={"metric"})
        if not (isinstance(goal, Mapping) or goal in ("max", "min")):
            raise UserError(
                f"the objective {metric!r} is {goal!r}; write 'max', 'min', or its goal with a limit, such as "
                f"{{goal: min, limit: 5.0}}."
            )
        rows.append({"metric": metric, **(goal if isinstance(goal, Mapping) else {"goal": goal})})
    return rows
