"""What the built-in problems share: examples with targets, a loss, and sums over batches that metrics are made of."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.data.dataset import Data
from nasbench.data.split import Inputs, Split
from nasbench.objectives.metrics import Metrics
from nasbench.problems.problem import Part, Problem, ReportEpoch
from nasbench.training.config import TrainingConfig
from nasbench.training.errors import Diverged
from nasbench.training.loop import train
from nasbench.training.training import Loss, Training
from nasbench_compression import CompiledModel
from nasbench_compression.outputs import logits_of, tensors_of
from nasbench_compression.step import device_of
from nasbench_compression.surgery import inference
from search_spaces import Task

JUDGED_AT_ONCE = 512


@dataclass(frozen=True)
class Supervised(Problem):
    """Examples with targets. A subclass says what the loss is and what is counted.

    Attributes:
        data: training examples fit and calibrate, validation examples judge.
        training: how a network is trained where nobody says otherwise.
        data_source: name and options of the data set, by which it is loaded again.
    """

    data: Data = field(repr=False)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    data_source: Mapping[str, Any] = field(default_factory=dict)

    @abstractmethod
    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            outputs: what the network gives.
            targets: of the data.
        """

    @abstractmethod
    def sums(self, output: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """What is summed over the batches of a part, by name.

        Args:
            output: the tensor of the outputs that answers, see `logits_of`.
            targets: of the data.
        """

    @abstractmethod
    def summarise(self, totals: Mapping[str, Tensor], examples: int) -> Metrics:
        """Metrics of the totals; their names have no part in front.

        Args:
            totals: what `sums` gave, added up, in float64.
            examples: in the part.
        """

    @property
    def task(self) -> Task:
        """What a network takes and gives, as the data say."""
        return self.data.task

    @property
    def images_recur(self) -> bool:  # type: ignore[override]  # a class attribute in the contract
        """Whether nothing augments the examples."""
        return not self.training.augmentation.changes

    @property
    def digest(self) -> str:
        """That of the data."""
        return self.data.digest

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
        """Train on the training examples; see `nasbench.training.loop.train`, which raises Diverged and TimedOut."""
        train(
            network,
            self.data.train,
            self.training,
            seed=seed,
            epochs=epochs,
            device=device,
            learning_rate=learning_rate,
            loss=self._criterion if loss is None else loss,
            targets=self.data.kind,
            on_batch=on_batch,
            on_epoch=None if report is None else lambda epoch, mean: report(epoch, {"train_loss": mean}),
        )

    def begin(
        self, network: nn.Module, *, seed: int, epochs: int | None, device: str, accumulate: int, deadline: float | None
    ) -> Training:
        """A training that can be stopped after any epoch and taken up again; see `nasbench.training.Training`."""
        return Training(
            network,
            self.data.train,
            self.training,
            seed=seed,
            epochs=epochs,
            loss=self._criterion,
            targets=self.data.kind,
            device=device,
            accumulate=accumulate,
            deadline=deadline,
        )

    @property
    def _criterion(self) -> Loss | None:
        """The loss of training; None is the cross-entropy of `Training`, which sees when a network only guesses."""
        return lambda inputs, outputs, targets: self.loss(outputs, targets)

    def score(self, model: Callable[..., Any], part: Part = "val") -> Metrics:
        """See `Problem.score`.

        Raises:
            Diverged: an output is not finite.
        """
        split = self.data.val if part == "val" else self.data.test
        totals: dict[str, Tensor] = {}
        for outputs, targets in answers(model, split):
            for name, value in self.sums(logits_of(outputs), targets).items():
                totals[name] = totals[name] + value.double().cpu() if name in totals else value.double().cpu()
        return {f"{part}_{name}": value for name, value in self.summarise(totals, len(split)).items()}

    def examples(self, count: int) -> Inputs:
        """So many training inputs at most, as a network takes them."""
        return self.data.train.take(slice(count))[0]

    def targets(self, count: int) -> Tensor:
        """Those of `examples`."""
        return self.data.train.targets[:count]

    def unseen(self, count: int | None, seed: int) -> Inputs:
        """Validation inputs."""
        return self.data.val.some(count, seed).examples

    def judged(self, part: Part) -> int:
        """See `Problem.judged`."""
        return len(self.data.val if part == "val" else self.data.test)

    def fewer(self, count: int | None, seed: int) -> Problem:
        """The same, with so many validation and test examples at most, drawn by the seed."""
        return replace(self, data=self.data.fewer(count, seed))


def answers(model: Callable[..., Any], split: Split) -> Iterator[tuple[Any, Tensor]]:
    """What a network or a compiled model gives for every example, in batches, with the targets on the same device.

    Raises:
        Diverged: an output is not finite.
    """
    if isinstance(model, nn.Module):
        device = device_of(model)
        with inference(model):
            yield from _answers(lambda *inputs: model(*(each.to(device) for each in inputs)), split, device)
    elif isinstance(model, CompiledModel):
        yield from _answers(lambda *inputs: _tensors(model(*(each.numpy() for each in inputs))), split, None)
    else:
        with torch.no_grad():
            yield from _answers(model, split, None)


def _answers(ask: Callable[..., Any], split: Split, device: torch.device | None) -> Iterator[tuple[Any, Tensor]]:
    for inputs, targets in split.batches(JUDGED_AT_ONCE):
        outputs = ask(*inputs) if isinstance(inputs, tuple) else ask(inputs)
        if not all(bool(tensor.isfinite().all()) for tensor in tensors_of(outputs).values()):
            raise Diverged("the network gives outputs that are not finite")
        yield outputs, targets if device is None else targets.to(device)


def _tensors(outputs: Any) -> Any:
    """Arrays as tensors, in whatever form they come."""
    if isinstance(outputs, Mapping):
        return {name: torch.from_numpy(array) for name, array in outputs.items()}
    if isinstance(outputs, tuple | list):
        return tuple(torch.from_numpy(array) for array in outputs)
    return torch.from_numpy(outputs)
