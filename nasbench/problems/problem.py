"""The contract of what a network is for."""

from __future__ import annotations

import hashlib
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from nasbench.objectives.metrics import Metric, Metrics
from nasbench.training.config import TrainingConfig
from search_spaces import Task

Part = Literal["val", "test"]
ReportEpoch = Callable[[int, Metrics], bool]
"""report(epoch from 1, metrics) -> whether to go on."""
EXAMPLES = 256  # real inputs that are enough to calibrate with


class Problem(ABC):
    """The inputs and outputs of a network, its training, and its metrics.

    Candidates, recipes, distillation and quantization know a problem and nothing else of data or loops. A class of the
    user's own defines the five abstract members; see docs/problems.md.

    Attributes:
        name: Name in an experiment; empty for a class of the user's own, which is named ``module:Class``.
        summary: One line for a listing.
        training: How networks are trained, and how long; what `fit` does not read means nothing.
        images_recur: Whether `fit` shows the same inputs unchanged in each epoch, so that what a teacher says about
            them is computed once.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    training: TrainingConfig = TrainingConfig()
    images_recur: bool = False

    @property
    @abstractmethod
    def task(self) -> Task:
        """The inputs and outputs of a network."""

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics that `score` gives of the validation part, with unit and goal; the first one is the quality."""

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
            network: Network to train.
            epochs: Number of epochs; None is the full budget of the problem.
            seed: Random seed of every random choice.
            device: Where the network is trained: cpu or cuda.
            report: Called after each epoch; False ends the training.
            loss: Loss (inputs, outputs, targets) -> scalar tensor, in place of that of the problem.
            learning_rate: Learning rate in place of that of the problem.
            on_batch: Called after each step of the optimizer, with the steps done and all there will be.
        """

    @abstractmethod
    def score(self, model: Callable[..., Any], part: Part = "val") -> Metrics:
        """How good a network or a compiled model is on the validation or the test part.

        Names begin with the part: ``val_acc_pct`` of one is ``test_acc_pct`` of the other.

        Args:
            model: Network, or a compiled model, which takes and gives NumPy arrays.
            part: Part of the examples; test data are read once, when nothing is left to choose.
        """

    def score_on(self, device: str, model: Callable[..., Any], part: Part = "val") -> Metrics:
        """`score` of a network that may lie on a device meanwhile; unless a class says how, it stays where it is.

        Args:
            device: Where the network lies meanwhile: cpu or cuda.
            model: Network, which is left where it was, or a compiled model, which runs where it was compiled for.
            part: Part of the examples, as in `score`.
        """
        return self.score(model, part)

    @abstractmethod
    def examples(self, count: int) -> Any:
        """Real training inputs, for calibration: so many at most, as a network takes them."""

    # ---- what a problem may say beside

    def targets(self, count: int) -> Tensor | None:
        """The targets of `examples`, for what reads the gradient of the loss; None where they are not known."""
        return None

    def loss(self, outputs: Any, targets: Tensor) -> Tensor | None:
        """The mean loss of a batch, which distillation adds to what the teacher says; None leaves it to the teacher."""
        return None

    def decode(self, outputs: Any) -> Any:
        """The outputs of a network, as an array in the units of the targets; networks may be trained in others."""
        return outputs

    def unseen(self, count: int | None, seed: int) -> Any:
        """So many real inputs at most, by chance, that networks were not trained on, if there are any; None is all."""
        return self.examples(count or EXAMPLES)

    def judged(self, part: Part) -> int | None:
        """How many examples a part has; None where that is not known."""
        return None

    def fewer(self, count: int | None, seed: int) -> Problem:
        """The same problem with so many examples of evaluation at most; None is all. By default it stays as it is."""
        return self

    @property
    def digest(self) -> str:
        """The same only for problems that train the same networks, as far as that can be seen: by real inputs."""
        digest = hashlib.sha256(repr((type(self).__qualname__, self.task)).encode())
        inputs = self.examples(EXAMPLES)
        for tensor in inputs if isinstance(inputs, tuple | list) else (inputs,):
            digest.update(torch.as_tensor(tensor).contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def source(self) -> Mapping[str, Any]:
        """Name and options by which it is made again, see `nasbench.problems.registry.make_problem`.

        Options are the arguments of the class that the object keeps under their names, if they are JSON values.
        """
        kind = type(self)
        if kind.name:
            return {"name": kind.name}
        attributes = {name: getattr(self, name, None) for name in inspect.signature(kind).parameters}
        plain = {
            name: value
            for name, value in attributes.items()
            if isinstance(value, str | int | float | bool | list | dict)
        }
        return {"name": f"{kind.__module__}:{kind.__qualname__}", **plain}

    @property
    def quality(self) -> str:
        """The name of the first metric."""
        return next(iter(self.metrics))

    def tested(self, metric: str) -> str:
        """The name of a metric where it is of test data."""
        return "test_" + metric.removeprefix("val_")

    def better(self, value: float, than: float) -> bool:
        """Whether one value of the quality is better than another."""
        return value < than if self.metrics[self.quality].goal == "min" else value > than

    def drop_pct(self, value: float, before: float) -> float:
        """How much worse one value of the quality is than another; below zero where it is better.

        Points, where the quality is in percent; else percent of the value before.
        """
        metric = self.metrics[self.quality]
        worse = value - before if metric.goal == "min" else before - value
        if metric.unit == "%":
            return worse
        if not (math.isfinite(value) and math.isfinite(before)):
            return math.inf
        return 100 * worse / abs(before) if before else math.copysign(math.inf, worse) if worse else 0.0
