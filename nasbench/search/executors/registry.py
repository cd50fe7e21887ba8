"""The executors by name."""

from __future__ import annotations

from nasbench.evaluators.evaluator import Evaluator
from nasbench.search.executors.executor import Executor, ExecutorOptions
from nasbench.search.executors.inline import Inline
from nasbench.search.executors.ray_pool import RayPool
from nasbench.search.executors.ray_tune import RayTune

EXECUTORS: dict[str, type[Executor]] = {"inline": Inline, "ray": RayTune}


def get_executor(options: ExecutorOptions, evaluator: Evaluator) -> Executor:
    """The executor that the options name; under Ray a pool for what is too cheap for Ray Tune."""
    if options.executor.name == "ray" and evaluator.at_once > 1 and options.scheduler is None:
        return RayPool(options)
    return EXECUTORS[options.executor.name](options)
