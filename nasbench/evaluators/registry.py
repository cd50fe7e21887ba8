"""The evaluators by name, and functions of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from nasbench_registry import Entries, Names, UserError
from nasbench_registry.registry import check_complete

if TYPE_CHECKING:
    from nasbench.evaluators.evaluator import Evaluator

EVALUATORS: Entries[type[Evaluator]] = Entries(
    {
        "trained": "nasbench.evaluators.trained:Trained",
        "compressed": "nasbench.evaluators.compressed.compressed:Compressed",
        "tabular": "nasbench.evaluators.tabular:Tabular",
        "zero_cost": "nasbench.evaluators.zero_cost:ZeroCost",
        "supernet": "nasbench.evaluators.supernet:SupernetScores",
        "shared_weights": "nasbench.evaluators.shared_weights:SharedWeights",
        "predicted": "nasbench.evaluators.predicted:Predicted",
    }
)

EvaluatorOrFunction: TypeAlias = "type[Evaluator] | Callable[..., Any]"


class _Evaluators(Names["EvaluatorOrFunction"]):
    """Classes of evaluators, and functions that score a candidate."""

    attribute = "function"

    def _checked(self, name: str, value: object) -> EvaluatorOrFunction:
        from nasbench.evaluators.evaluator import Evaluator

        if isinstance(value, type) and not issubclass(value, Evaluator):
            raise UserError(
                f"evaluator {name!r} is a class that is not derived from nasbench.evaluators.evaluator.Evaluator; "
                f"derive it, or name a function of a candidate."
            )
        if not callable(value):
            raise UserError(
                f"evaluator {name!r} is {value!r}; name a function of a candidate that returns its metrics."
            )
        if isinstance(value, type):
            check_complete(self.kind, name, value, Evaluator)
        return value

    def _offers(self, value: object) -> bool:
        return callable(value)


evaluators = _Evaluators("evaluator", EVALUATORS, group="nasbench.evaluators")
