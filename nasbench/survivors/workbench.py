"""What compression steps are given to work with: data, a training loop and a judge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from compression import CompiledModel, Context, Loss
from compression.surgery import inference
from nasbench.config.experiment import TrainingConfig
from nasbench.data import ImageData, Split
from nasbench.training import Score, score, train

CALIBRATION_IMAGES = 256


@dataclass(frozen=True)
class Workbench:
    """Data and training settings, for fine-tuning and judging.

    Attributes:
        data: training images fit and calibrate, validation images judge.
        training: how fine-tuning goes where a step does not say.
        seed: of every random choice.
    """

    data: ImageData
    training: TrainingConfig
    seed: int

    def context(self, teacher: nn.Module | None = None) -> Context:
        """The context of a recipe; `teacher` is what distillation learns from."""
        return Context(
            example_inputs=self.data.train.images[:1],
            calibration=self.data.train.images[:CALIBRATION_IMAGES],
            finetune=self.finetune,
            evaluate=self.validate,
            seed=self.seed,
            teacher=teacher,
        )

    def finetune(
        self, model: nn.Module, loss: Loss | None = None, *, epochs: int, learning_rate: float | None = None
    ) -> None:
        """Train in place on the training images; see `nasbench.training.train`."""
        train(
            model,
            self.data.train,
            self.training,
            seed=self.seed,
            epochs=epochs,
            learning_rate=learning_rate,
            loss=loss,
        )

    def validate(self, model: nn.Module | CompiledModel) -> float:
        """Validation accuracy in percent."""
        return judge(model, self.data.val).accuracy_pct


def judge(model: nn.Module | CompiledModel, split: Split) -> Score:
    """Accuracy and loss of a network or of a compiled model."""
    if isinstance(model, CompiledModel):
        return score(lambda images: torch.from_numpy(model(images.numpy())), split)
    with inference(model):
        return score(model, split)
