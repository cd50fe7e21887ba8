"""Where candidates are evaluated."""

from nasbench.config.experiment import ExecutorConfig
from nasbench.executors.executor import Executor, OnResult
from nasbench.executors.inline import Inline
from nasbench.executors.ray_tune import RayTune

EXECUTORS: dict[str, type[Executor]] = {"inline": Inline, "ray": RayTune}


def get_executor(config: ExecutorConfig) -> Executor:
    """The executor that an experiment names."""
    return EXECUTORS[config.name](config)


__all__ = ["EXECUTORS", "Executor", "OnResult", "get_executor"]
