"""Neural architecture search and model compression, from Python.

    import nasbench as nb

    result = nb.search(space, evaluate=function, objectives={"val_f1": "max"}, candidates=100, folder="runs/mine")

Everything is imported when it is first used: ``import nasbench`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nasbench.evaluators.candidate import Candidate
    from nasbench.evaluators.evaluator import Evaluator
    from nasbench.experiment.api import resume, search
    from nasbench.experiment.result import Result
    from nasbench.objectives.objective import maximize, minimize
    from nasbench.problems.image_classification import image_classification
    from nasbench.problems.problem import Problem
    from nasbench.search.callbacks import Callback
    from nasbench_registry import UserError
    from search_spaces import Architecture, Decision, ProductSpace, SearchSpace, Task, check_space, get_space

_HOMES = {
    "Candidate": "nasbench.evaluators.candidate",
    "Evaluator": "nasbench.evaluators.evaluator",
    "resume": "nasbench.experiment.api",
    "search": "nasbench.experiment.api",
    "Result": "nasbench.experiment.result",
    "maximize": "nasbench.objectives.objective",
    "minimize": "nasbench.objectives.objective",
    "image_classification": "nasbench.problems.image_classification",
    "Problem": "nasbench.problems.problem",
    "Callback": "nasbench.search.callbacks",
    "UserError": "nasbench_registry",
    "Architecture": "search_spaces",
    "Decision": "search_spaces",
    "ProductSpace": "search_spaces",
    "SearchSpace": "search_spaces",
    "Task": "search_spaces",
    "check_space": "search_spaces",
    "get_space": "search_spaces",
}
"""Where each public name is defined."""

__all__ = [
    "Architecture",
    "Callback",
    "Candidate",
    "Decision",
    "Evaluator",
    "Problem",
    "ProductSpace",
    "Result",
    "SearchSpace",
    "Task",
    "UserError",
    "check_space",
    "get_space",
    "image_classification",
    "maximize",
    "minimize",
    "resume",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
