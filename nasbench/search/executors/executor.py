"""The contract of what runs the candidates of a study."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from nasbench.evaluators import Evaluator
from nasbench.search.config import ExecutorConfig
from nasbench.search.record import Candidate
from nasbench.search.study import Study

OnResult = Callable[[Candidate], None]


class Executor(ABC):
    """Takes candidates from a study, has them evaluated, and gives back what came of them.

    Args:
        config: how many at a time, and what each of them gets.
    """

    name: ClassVar[str]

    def __init__(self, config: ExecutorConfig) -> None:
        self.config = config

    @abstractmethod
    def run(self, study: Study, evaluator: Evaluator, on_result: OnResult) -> None:
        """Evaluate until the study is finished; `on_result` hears of each candidate."""
