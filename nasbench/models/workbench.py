"""The tools of compression steps: a problem, and a device to measure on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nasbench.devices.beside import Anchor
from nasbench.devices.device import Device
from nasbench.models.normalization import scaled
from nasbench.models.store import load_model
from nasbench.objectives.metrics import Metrics
from nasbench.problems.problem import EXAMPLES, Part, Problem
from nasbench.problems.supervised import Supervised
from nasbench.training.config import TrainingConfig
from nasbench_compression import CompiledModel, Context, Loss, OnBatch
from nasbench_compression.compilation.agreement import Agreement
from nasbench_compression.inputs import one_tensor
from nasbench_compression.quantization.modules import is_quantized
from nasbench_registry import UserError
from nasbench_registry.files import user_path
from search_spaces import Task

RELATIVE_QUALITY = "of_first_pct"
"""Unit of `Context.evaluate` where the quality of a problem is not in percent: percent of the first network's."""


@dataclass(frozen=True)
class Workbench:
    """A problem, for fine-tuning and evaluation, and a device to measure on.

    Attributes:
        problem: Problem whose training examples fit and calibrate, and whose validation examples evaluate.
        seed: Random seed of every random choice.
        device: Device on which a step may measure what it made; None where it cannot.
        anchors: Networks whose latency on the device is known, beside which it is measured; see
            `nasbench.devices.beside`.
        trains_on: Where networks are fine-tuned and evaluated: cpu or cuda.
    """

    problem: Problem
    seed: int
    device: Device | None = None
    anchors: Sequence[Anchor] = ()
    trains_on: str = "cpu"

    @property
    def task(self) -> Task:
        """The inputs and outputs of networks; one input, in which several are packed, see `Packed`."""
        return self.problem.task.packed()

    @property
    def training(self) -> TrainingConfig:
        """How fine-tuning goes where a step does not say."""
        return self.problem.training

    def context(self, teacher: nn.Module | None = None) -> Context:
        """The context of a recipe; `teacher` is what distillation learns from."""
        measurable = self.device is not None and self.device.times_networks
        examples = self.calibration()
        labels = self.problem.targets(EXAMPLES)
        in_percent = self.problem.metrics[self.problem.quality].unit == "%"
        return Context(
            example_inputs=examples[:1],
            calibration=examples,
            finetune=self.finetune,
            evaluate=self.validate if in_percent else self._relative(),
            quality=self.problem.quality if in_percent else RELATIVE_QUALITY,
            seed=self.seed,
            teacher=teacher,
            labels=labels,
            loss=None if type(self.problem).loss is Problem.loss else self.problem.loss,
            classes=labels is not None and not labels.is_floating_point(),
            latency_ms=self.latency_ms if measurable else None,
            images_recur=self.problem.images_recur,
            load_teacher=self.load_teacher,
        )

    def calibration(self) -> torch.Tensor:
        """Real training inputs, (n, ...), in which several are packed."""
        return one_tensor(self.problem.examples(EXAMPLES))

    def finetune(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        epochs: int,
        learning_rate: float | None = None,
        on_batch: OnBatch | None = None,
    ) -> None:
        """Train in place on the training examples; see `Problem.fit`."""
        criterion = loss if loss is None or len(self.problem.task.inputs) == 1 else _of_one_input(loss)
        self.problem.fit(
            model,
            seed=self.seed,
            epochs=epochs,
            device=self.trains_on,
            loss=criterion,
            learning_rate=learning_rate,
            on_batch=on_batch,
        )

    def load_teacher(self, folder: str) -> nn.Module:
        """The network in a model folder, which was trained on examples like those here.

        Raises:
            UserError: The folder holds no such network.
        """
        stored = load_model(user_path(folder))
        if stored.task != self.task:
            raise UserError(
                f"the teacher in {folder} was made for {stored.task}, and the data here are {self.task}; "
                f"take a teacher for these data."
            )
        data = self.problem.data if isinstance(self.problem, Supervised) else None
        normalizations = () if data is None else (("mean", data.mean, data.std), ("std", data.std, data.std))
        for name, ours, std in normalizations:
            theirs = scaled(stored.origin.normalization, name)
            if theirs is not None and not np.allclose(theirs, ours, atol=1e-3 * max(std, default=1.0)):
                raise UserError(
                    f"the teacher in {folder} knows images with {name} {theirs}, and those here have "
                    f"{list(ours)}; take a teacher that was trained on the same data set."
                )
        return stored.model

    def score(self, model: nn.Module | CompiledModel, part: Part = "val") -> Metrics:
        """The metrics of a network, which is evaluated where it is trained, or of a compiled model."""
        return self.problem.score_on(self.trains_on, model, part)

    def validate(self, model: nn.Module | CompiledModel) -> float:
        """The quality of a network on validation examples, in the unit of its metric."""
        return self.score(model)[self.problem.quality]

    def _relative(self) -> Callable[[nn.Module | CompiledModel], float]:
        """A function that gives the quality of networks in percent of the first one; more is better."""
        first: list[float] = []

        def judged(model: nn.Module | CompiledModel) -> float:
            value = self.validate(model)
            first.append(value)
            return 100 - self.problem.drop_pct(value, first[0])

        return judged

    def fewer(self, count: int | None, seed: int) -> Workbench:
        """The same with so many examples of evaluation at most; None is all."""
        return dataclasses.replace(self, problem=self.problem.fewer(count, seed))

    def compiled(self, model: nn.Module | CompiledModel) -> CompiledModel:
        """The model as the device's runtime runs it, in int8 if it is quantized; a compiled model as it is.

        Raises:
            UserError: The runtime cannot compile it.
        """
        if isinstance(model, CompiledModel):
            return model
        precision = "int8" if is_quantized(model) else "fp32"
        return self._require_device().compile(model, self.task, precision, self.calibration())

    def latency_ms(self, model: nn.Module | CompiledModel) -> float:
        """Milliseconds of the model as the device's runtime runs it; beside the anchors if there are any."""
        return self._require_device().measure(self.compiled(model), self.task, anchors=self.anchors).median

    def _require_device(self) -> Device:
        if self.device is None:
            raise UserError("this workbench has no device, and without one nothing is deployed or timed; give it one.")
        return self.device


def _of_one_input(loss: Loss) -> Loss:
    """A loss of a step, which knows one input, for a network that is trained on several."""

    def of_several(inputs: Any, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        return loss(one_tensor(inputs), outputs, targets)

    return of_several


def agrees(compiled: CompiledModel, network: nn.Module, inputs: torch.Tensor) -> Agreement:
    """Compare an artefact, compiled with real inputs, with its network.

    Raises:
        WorkFailed: It computes something else.
    """
    assert compiled.limits is not None, "it was compared when it was compiled, on training examples"
    return compiled.limits.check(compiled, network, inputs)
