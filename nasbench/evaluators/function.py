"""Score candidates with a function of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.evaluator import BLOCK, Evaluator
from nasbench.objectives.metrics import Metrics
from search_spaces import SearchSpace, Task

EvaluateFunction = Callable[[Candidate], Mapping[str, Any]]


class FunctionEvaluator(Evaluator):
    """A function of a candidate that returns its metrics: ``evaluate(candidate) -> {"val_f1": 0.9}``.

    Args:
        space: Search space that candidates belong to.
        function: Function of a `Candidate` that returns numbers by name; any metric that it gives may be an objective,
            a limit or part of a reward. If it has a method `evaluate_many`, which takes several candidates and returns
            the metrics of each, or an exception in the place of one that failed, that is called for cheap candidates.
        task: Task that ``candidate.network()`` builds for; None where the space builds without one.
    """

    summary = "a function of the user's own: module:function"

    def __init__(self, space: SearchSpace, function: EvaluateFunction, task: Task | None = None) -> None:
        super().__init__(space, task)
        self.function = function

    @property
    def at_once(self) -> int:
        """Several, if the function offers it."""
        return BLOCK if callable(getattr(self.function, "evaluate_many", None)) else 1

    def evaluate_many(self, candidates: Sequence[Candidate]) -> Sequence[Metrics | Exception]:
        """The results of the function's `evaluate_many`."""
        offered: Callable[..., Sequence[Metrics | Exception]] = cast("Any", self.function).evaluate_many
        return offered(candidates)

    def __call__(self, candidate: Candidate) -> Metrics:
        """The metrics that the function returns."""
        return self.function(candidate)
