"""What compression steps are given to work with: data, a training loop and a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from nasbench.data.images import ImageData, Split
from nasbench.devices.beside import Anchor
from nasbench.devices.device import Device
from nasbench.models.normalization import scaled
from nasbench.models.store import load_model
from nasbench.problems.image_classification import judge
from nasbench.training.config import TrainingConfig
from nasbench.training.loop import train
from nasbench_compression import CompiledModel, Context, Loss, OnBatch
from nasbench_compression.compilation.agreement import Agreement
from nasbench_compression.quantization.modules import is_quantized
from nasbench_registry import UserError
from nasbench_registry.files import user_path

CALIBRATION_IMAGES = 256


@dataclass(frozen=True)
class Workbench:
    """Data and training settings, for fine-tuning and judging.

    Attributes:
        data: training images fit and calibrate, validation images judge.
        training: how fine-tuning goes where a step does not say.
        seed: of every random choice.
        device: where a step may measure what it made; None where it cannot.
        anchors: networks whose latency on the device is known, beside which it is measured; see
            `nasbench.devices.beside`.
    """

    data: ImageData
    training: TrainingConfig
    seed: int
    device: Device | None = None
    anchors: Sequence[Anchor] = ()

    def context(self, teacher: nn.Module | None = None) -> Context:
        """The context of a recipe; `teacher` is what distillation learns from."""
        measurable = self.device is not None and self.device.times_networks
        augmentation = self.training.augmentation
        return Context(
            example_inputs=self.data.train.images[:1],
            calibration=self.data.train.images[:CALIBRATION_IMAGES],
            finetune=self.finetune,
            evaluate=self.validate,
            seed=self.seed,
            teacher=teacher,
            labels=self.data.train.labels[:CALIBRATION_IMAGES],
            latency_ms=self.latency_ms if measurable else None,
            images_recur=not (augmentation.crop or augmentation.flip or augmentation.cutout),
            load_teacher=self.load_teacher,
        )

    def finetune(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        epochs: int,
        learning_rate: float | None = None,
        on_batch: OnBatch | None = None,
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
            on_batch=on_batch,
        )

    def load_teacher(self, folder: str) -> nn.Module:
        """The network in a model folder, which was trained on images like those here.

        Raises:
            UserError: the folder holds no such network.
        """
        stored = load_model(user_path(folder))
        if stored.task != self.data.task:
            raise UserError(
                f"the teacher in {folder} was made for {stored.task}, and the data here are {self.data.task}; "
                f"take a teacher for these data."
            )
        for name, ours in (("mean", self.data.mean), ("std", self.data.std)):
            theirs = scaled(stored.origin.normalization, name)
            if theirs is not None and not np.allclose(theirs, ours, atol=1e-3 * max(self.data.std)):
                raise UserError(
                    f"the teacher in {folder} knows images with {name} {theirs}, and those here have "
                    f"{list(ours)}; take a teacher that was trained on the same data set."
                )
        return stored.model

    def validate(self, model: nn.Module | CompiledModel) -> float:
        """Validation accuracy in percent."""
        return judge(model, self.data.val).accuracy_pct

    def compiled(self, model: nn.Module | CompiledModel) -> CompiledModel:
        """The model as the device's runtime runs it, in int8 if it is quantized; a compiled model as it is.

        Raises:
            UserError: the runtime cannot compile it.
        """
        if isinstance(model, CompiledModel):
            return model
        device = self._require_device()
        calibration = self.data.train.images[:CALIBRATION_IMAGES]
        precision = "int8" if is_quantized(model) else "fp32"
        return device.compile(model, self.data.task, precision, calibration)

    def latency_ms(self, model: nn.Module | CompiledModel) -> float:
        """Milliseconds of the model as the device's runtime runs it; beside the anchors if there are any."""
        return self._require_device().measure(self.compiled(model), self.data.task, anchors=self.anchors).median

    def _require_device(self) -> Device:
        if self.device is None:
            raise UserError("this workbench has no device, and without one nothing is deployed or timed; give it one.")
        return self.device


def agrees(compiled: CompiledModel, network: nn.Module, images: Split) -> Agreement:
    """Compare an artefact, compiled with real images, with its network.

    Raises:
        WorkFailed: it computes something else.
    """
    assert compiled.limits is not None, "it was compared when it was compiled, on training images"
    return compiled.limits.check(compiled, network, images.images)
