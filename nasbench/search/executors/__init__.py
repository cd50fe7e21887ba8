"""Where candidates are evaluated."""

from nasbench.search.config import ExecutorConfig
from nasbench.search.executors.executor import Executor, OnResult
from nasbench.search.executors.inline import Inline
from nasbench.search.executors.ray_tune import RayTune

EXECUTORS: dict[str, type[Executor]] = {"inline": Inline, "ray": RayTune}


def get_executor(config: ExecutorConfig) -> Executor:
    """The executor that an experiment names."""
    return EXECUTORS[config.name](config)


__all__ = ["EXECUTORS", "Executor", "OnResult", "get_executor"]
