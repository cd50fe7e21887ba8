"""The contract of what runs the candidates of a study."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from nasbench.evaluators.evaluator import Evaluator
from nasbench.search.config import ExecutorConfig, RayConfig, SchedulerConfig
from nasbench.search.record import RecordedCandidate
from nasbench.search.study import Study
from nasbench.storage.checkpoints import Checkpoints

OnResult = Callable[[RecordedCandidate], None]


@dataclass(frozen=True)
class ExecutorOptions:
    """Where candidates are evaluated, and what ends one of them.

    Attributes:
        executor: Number of candidates at a time, and the resources of each of them.
        checkpoints: Checkpoints of the run, where a hanging worker leaves a note.
        code_folder: Folder of a user's own modules, which travel to the machines of a cluster.
        ray: Settings of the cluster.
        scheduler: Rule by which candidates are stopped before their last epoch; None stops none.
        candidate_minutes: Minutes after which a candidate is timed out; None is no limit.
    """

    executor: ExecutorConfig
    checkpoints: Checkpoints
    code_folder: Path
    ray: RayConfig = field(default_factory=RayConfig)
    scheduler: SchedulerConfig | None = None
    candidate_minutes: float | None = None


class Executor(ABC):
    """Takes candidates from a study, has them evaluated, and returns their outcomes.

    Args:
        options: Where candidates are evaluated, and what ends one of them.
    """

    name: ClassVar[str]

    def __init__(self, options: ExecutorOptions) -> None:
        self.options = options
        self.config = options.executor

    @abstractmethod
    def run(self, study: Study, evaluator: Evaluator, on_result: OnResult) -> None:
        """Evaluate until the study is finished; `on_result` is called with each candidate."""
