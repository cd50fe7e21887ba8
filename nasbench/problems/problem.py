"""The contract of what a network is for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import nn

from nasbench.objectives.metrics import Metric, Metrics
from search_spaces import Task

Part = Literal["val", "test"]
ReportEpoch = Callable[[int, Metrics], bool]
"""report(epoch from 1, metrics) -> whether to go on."""


class Problem(ABC):
    """What a network takes and gives, how it is fitted, and how good it is.

    Candidates, recipes, distillation and quantization know a problem and nothing else of data or loops.
    """

    @property
    @abstractmethod
    def task(self) -> Task:
        """What a network takes and gives."""

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """What `score` gives, by name; the first one is the quality."""

    @abstractmethod
    def fit(
        self,
        network: nn.Module,
        *,
        epochs: int | None = None,
        seed: int,
        device: str = "cpu",
        report: ReportEpoch | None = None,
        loss: Callable[..., Any] | None = None,
        learning_rate: float | None = None,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> None:
        """Train a network in place; leave it on the CPU, in eval mode.

        Args:
            network: what is trained.
            epochs: how many; None is the full budget of the problem.
            seed: of every random choice.
            device: cpu or cuda.
            report: called after each epoch; False ends the training.
            loss: (inputs, outputs, targets) -> scalar tensor, in place of that of the problem.
            learning_rate: in place of that of the problem.
            on_batch: called after each step of the optimizer, with the steps done and all there will be.
        """

    @abstractmethod
    def score(self, model: Callable[..., Any], part: Part = "val") -> Metrics:
        """How good a network or a compiled model is on the validation or the test part.

        Args:
            model: a network, or a compiled model.
            part: test data are read once, when nothing is left to choose.
        """

    @abstractmethod
    def examples(self, count: int) -> Any:
        """Real training inputs, for calibration: so many at most, as a network takes them."""
