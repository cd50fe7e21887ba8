"""Neural architecture search and model compression, from Python.

    import nasbench as nb

    result = nb.search(space, evaluate=function, objectives={"val_f1": "max"}, candidates=100, folder="runs/mine")

Everything is imported when it is first used: ``import nasbench`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nasbench.deploy.explanation import Explanation, explain
    from nasbench.evaluators.candidate import Candidate
    from nasbench.evaluators.evaluator import Evaluator
    from nasbench.experiment.api import resume, search
    from nasbench.experiment.result import Result
    from nasbench.models.model import Model, compress, load, measure, save
    from nasbench.objectives.metrics import Metric
    from nasbench.objectives.objective import maximize, minimize
    from nasbench.problems.problem import Problem
    from nasbench.problems.registry import image_classification, image_segmentation, regression
    from nasbench.problems.supervised import Supervised
    from nasbench.search.callbacks import Callback
    from nasbench.supernet.elastic import elastic
    from nasbench.supernet.shared import share
    from nasbench.supernet.store import load_supernet
    from nasbench.supernet.supernet import Supernet
    from nasbench.tables.registry import load_table as Table  # noqa: N812  # it gives an object of that class
    from nasbench.training.config import TrainingConfig
    from nasbench_compression.compilation.compile import Compile
    from nasbench_compression.decomposition.decompose import Decompose
    from nasbench_compression.distillation.distill import Distill
    from nasbench_compression.pruning.layers import DropLayers
    from nasbench_compression.pruning.structured import Prune
    from nasbench_compression.quantization.quantize import Quantize
    from nasbench_compression.sparsity.sparsify import Sparsify
    from nasbench_registry import UserError
    from search_spaces import (
        Architecture,
        Decision,
        ProductSpace,
        SearchSpace,
        Task,
        TensorSpec,
        check_space,
        get_space,
    )

_HOMES = {
    "Candidate": "nasbench.evaluators.candidate",
    "Evaluator": "nasbench.evaluators.evaluator",
    "Explanation": "nasbench.deploy.explanation",
    "explain": "nasbench.deploy.explanation",
    "Model": "nasbench.models.model",
    "compress": "nasbench.models.model",
    "load": "nasbench.models.model",
    "measure": "nasbench.models.model",
    "save": "nasbench.models.model",
    "Table": "nasbench.tables.registry:load_table",
    "Compile": "nasbench_compression.compilation.compile",
    "Decompose": "nasbench_compression.decomposition.decompose",
    "Distill": "nasbench_compression.distillation.distill",
    "DropLayers": "nasbench_compression.pruning.layers",
    "Prune": "nasbench_compression.pruning.structured",
    "Quantize": "nasbench_compression.quantization.quantize",
    "Sparsify": "nasbench_compression.sparsity.sparsify",
    "resume": "nasbench.experiment.api",
    "Result": "nasbench.experiment.result",
    "Metric": "nasbench.objectives.metrics",
    "maximize": "nasbench.objectives.objective",
    "minimize": "nasbench.objectives.objective",
    "image_classification": "nasbench.problems.registry",
    "image_segmentation": "nasbench.problems.registry",
    "regression": "nasbench.problems.registry",
    "Problem": "nasbench.problems.problem",
    "Supervised": "nasbench.problems.supervised",
    "Callback": "nasbench.search.callbacks",
    "elastic": "nasbench.supernet.elastic",
    "share": "nasbench.supernet.shared",
    "load_supernet": "nasbench.supernet.store",
    "Supernet": "nasbench.supernet.supernet",
    "UserError": "nasbench_registry",
    "Architecture": "search_spaces",
    "Decision": "search_spaces",
    "ProductSpace": "search_spaces",
    "SearchSpace": "search_spaces",
    "Task": "search_spaces",
    "TensorSpec": "search_spaces",
    "TrainingConfig": "nasbench.training.config",
    "check_space": "search_spaces",
    "get_space": "search_spaces",
}
"""Where each public name is defined, and as what, where that is another name."""

__all__ = [
    "Architecture",
    "Callback",
    "Candidate",
    "Compile",
    "Decision",
    "Decompose",
    "Distill",
    "DropLayers",
    "Evaluator",
    "Explanation",
    "Metric",
    "Model",
    "Problem",
    "ProductSpace",
    "Prune",
    "Quantize",
    "Result",
    "SearchSpace",
    "Sparsify",
    "Supernet",
    "Supervised",
    "Table",
    "Task",
    "TensorSpec",
    "TrainingConfig",
    "UserError",
    "check_space",
    "compress",
    "elastic",
    "explain",
    "get_space",
    "image_classification",
    "image_segmentation",
    "load",
    "load_supernet",
    "maximize",
    "measure",
    "minimize",
    "regression",
    "resume",
    "save",
    "search",
    "share",
]


class _Callable(types.ModuleType):
    """The package `nasbench.search`, which is called as the function of the same name."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Search a space; see `nasbench.experiment.api.search` for every argument."""
        return importlib.import_module("nasbench.experiment.api").search(*args, **options)

    @property
    def __signature__(self) -> Any:
        import inspect

        return inspect.signature(importlib.import_module("nasbench.experiment.api").search)


class _Face(types.ModuleType):
    """This module: ``nasbench.search`` is a package and a function, whichever of both is asked for first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "search" and isinstance(value, types.ModuleType):
            value.__class__ = _Callable
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face


def __getattr__(name: str) -> Any:
    if name == "search":
        return importlib.import_module("nasbench.search")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "search"})
