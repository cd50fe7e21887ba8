"""The evaluators by name, and functions of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nasbench.evaluators.compressed.compressed import Compressed
from nasbench.evaluators.evaluator import Evaluator
from nasbench.evaluators.predicted import Predicted
from nasbench.evaluators.tabular import Tabular
from nasbench.evaluators.trained import Trained
from nasbench.evaluators.zero_cost import ZeroCost
from nasbench_registry import Names, UserError
from nasbench_registry.registry import check_complete

EVALUATORS: dict[str, type[Evaluator]] = {
    "trained": Trained,
    "compressed": Compressed,
    "tabular": Tabular,
    "zero_cost": ZeroCost,
    "predicted": Predicted,
}

EvaluatorOrFunction = type[Evaluator] | Callable[..., Any]


class _Evaluators(Names[EvaluatorOrFunction]):
    """Classes of evaluators, and functions that score a candidate."""

    attribute = "function"

    def _checked(self, name: str, found: object) -> EvaluatorOrFunction:
        if isinstance(found, type) and not issubclass(found, Evaluator):
            raise UserError(
                f"evaluator {name!r} is a class that is not derived from nasbench.evaluators.evaluator.Evaluator; "
                f"derive it, or name a function of a candidate."
            )
        if not callable(found):
            raise UserError(
                f"evaluator {name!r} is {found!r}; name a function of a candidate that returns its metrics."
            )
        if isinstance(found, type):
            check_complete(self.kind, name, found, Evaluator)
        return found

    def _offers(self, value: object) -> bool:
        return callable(value)


evaluators = _Evaluators("evaluator", dict(EVALUATORS), group="nasbench.evaluators")
