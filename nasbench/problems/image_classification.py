"""One image and k classes: the problem that the sections `data` and `training` of an experiment describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nasbench.data.images import ImageData
from nasbench.data.registry import load_data
from nasbench.objectives.metrics import METRICS, Metric, Metrics
from nasbench.problems.problem import Part, Problem, ReportEpoch
from nasbench.training.config import TrainingConfig
from nasbench.training.loop import train
from nasbench.training.scoring import Score, score
from nasbench.training.training import Training
from nasbench_compression import CompiledModel
from nasbench_compression.surgery import inference
from search_spaces import Task


@dataclass(frozen=True)
class ImageClassification(Problem):
    """Images with one label each.

    Attributes:
        data: training images fit and calibrate, validation images judge.
        training: how a network is trained where nobody says otherwise.
        source: name and options of the data set, by which it can be loaded again.
    """

    data: ImageData = field(repr=False)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The shape of an image and the number of classes."""
        return self.data.task

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """val_acc_pct and val_loss."""
        return {name: METRICS[name] for name in ("val_acc_pct", "val_loss")}

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
        """Train on the training images; see `nasbench.training.loop.train`, which raises Diverged and TimedOut."""
        train(
            network,
            self.data.train,
            self.training,
            seed=seed,
            epochs=epochs,
            device=device,
            learning_rate=learning_rate,
            loss=loss,
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
            device=device,
            accumulate=accumulate,
            deadline=deadline,
        )

    def score(self, model: Callable[..., Any], part: Part = "val") -> Metrics:
        """Accuracy in percent and cross-entropy: val_acc_pct and val_loss, or test_acc_pct and test_loss."""
        known = judge(model, self.data.val if part == "val" else self.data.test)
        return {f"{part}_acc_pct": known.accuracy_pct, f"{part}_loss": known.loss}

    def examples(self, count: int) -> Tensor:
        """(count, channels, height, width) training images."""
        return self.data.train.images[:count]


def judge(model: Callable[..., Any], split: Any) -> Score:
    """Accuracy and loss of a network or of a compiled model.

    Args:
        model: a network, or a compiled model.
        split: images with labels.
    """
    if isinstance(model, CompiledModel):
        return score(lambda images: torch.from_numpy(model(images.numpy())), split)
    if isinstance(model, nn.Module):
        first = next(model.parameters(), None)
        with inference(model):
            return score(model, split, device=None if first is None else first.device)
    return score(model, split)


def image_classification(data: str = "digits", *, training: TrainingConfig | None = None, **options: Any) -> Problem:
    """The problem of a data set by its name.

    Args:
        data: name of the data set, see ``nasbench list datasets``.
        training: how networks are trained; options of `TrainingConfig` may be given directly instead.
        options: those of `TrainingConfig`, such as ``epochs=3``, and those of the data set.

    Raises:
        UserError: a name or an option is unknown, or the data are missing.
    """
    known = {name: options.pop(name) for name in list(options) if name in TrainingConfig.model_fields}
    chosen = (training or TrainingConfig()).model_copy(
        update=TrainingConfig.model_validate(known).model_dump(include=set(known))
    )
    return ImageClassification(load_data(data, **options), chosen, {"name": data, **options})
