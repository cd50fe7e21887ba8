"""The executors by name."""

from __future__ import annotations

from nasbench.search.executors.executor import Executor, ExecutorOptions
from nasbench.search.executors.inline import Inline
from nasbench.search.executors.ray_tune import RayTune

EXECUTORS: dict[str, type[Executor]] = {"inline": Inline, "ray": RayTune}


def get_executor(options: ExecutorOptions) -> Executor:
    """The executor that the options name."""
    return EXECUTORS[options.executor.name](options)
