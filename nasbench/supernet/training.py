"""The training of shared weights."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from nasbench.problems.supervised import Supervised
from nasbench.storage.checkpoints import DAMAGED
from nasbench.storage.tensor_files import TensorFiles
from nasbench.supernet.sampling import Progressive, Sampling, TrainingStep
from nasbench.supernet.weights import SharedWeights
from nasbench_compression.outputs import logits_of
from nasbench_registry import UserError
from search_spaces import Architecture

if TYPE_CHECKING:
    from nasbench.supernet.supernet import Supernet

STATE = "training.safetensors"
MAX_GRADIENT_NORM = 1.0  # of AttentiveNAS: the gradients of several networks add up


@dataclass(frozen=True)
class EpochDone:
    """The outcome of one epoch of the training of a supernet.

    Attributes:
        number: Number of the epoch, from 1.
        epochs: Number of epochs of the training.
        loss: Loss of a step, added up over its networks; the mean over the epoch.
        seconds: Seconds since the training began, without those before an interruption.
    """

    number: int
    epochs: int
    loss: float
    seconds: float


class _Step(nn.Module):
    """Computes with other networks in each step, while it looks like one network to a training loop.

    `forward` gives the outputs of the first network of the step; `loss` adds the losses of the others.
    """

    step: Tensor

    def __init__(self, supernet: Supernet, sampling: Sampling, seed: int) -> None:
        super().__init__()
        self.weights: SharedWeights = supernet.weights
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self._supernet, self._sampling, self._seed = supernet, sampling, seed
        self.steps: int | None = None  # of the whole training, where that is known
        self._archs: list[Architecture] = []
        targets = supernet.problem.targets(1)
        self._classes = targets is not None and not targets.is_floating_point()

    def forward(self, *inputs: Tensor) -> Any:
        supernet = self._supernet
        if not self.training:
            return supernet.member(supernet.largest).forward(self.weights, *inputs)
        rng = np.random.default_rng([self._seed, int(self.step)])
        progress = 0.0 if self.steps is None else min(1.0, int(self.step) / self.steps)
        step = TrainingStep(supernet.space, supernet.smallest, supernet.largest, rng, progress)
        self._archs = list(self._sampling.draw(step))
        self.step += 1
        return self._outputs(self._archs[0], inputs)

    def _outputs(self, arch: Architecture, inputs: tuple[Tensor, ...]) -> Any:
        member = self._supernet.member(arch)
        member.network.train(self.training)
        return member.forward(self.weights, *inputs)

    def loss(self, inputs: Any, outputs: Any, targets: Tensor) -> Tensor:
        problem = self._supernet.problem
        total = problem.loss(outputs, targets)
        if total is None:
            raise UserError(
                f"the problem {type(problem).__name__} gives no loss of outputs and targets, which the training of a "
                f"supernet needs; define its method loss."
            )
        values = inputs if isinstance(inputs, tuple) else (inputs,)
        for arch in self._archs[1:]:
            other_outputs = self._outputs(arch, values)
            value = (
                soft_targets(logits_of(other_outputs), logits_of(outputs), classes=self._classes)
                if self._sampling.distils
                else problem.loss(other_outputs, targets)
            )
            assert value is not None, "the problem gave a loss of the first network"
            total = total + value
        return total


def soft_targets(outputs: Tensor, teacher: Tensor, *, classes: bool) -> Tensor:
    """The loss of outputs that are to be those of a teacher: cross-entropy of classes, or the mean squared difference.

    Args:
        outputs: (n, k, ...) outputs of a network.
        teacher: Outputs of the teacher, of the same shape; no gradient reaches it.
        classes: Whether the outputs are logits of k classes.
    """
    if not classes:
        return nn.functional.mse_loss(outputs, teacher.detach())
    return nn.functional.cross_entropy(outputs, torch.softmax(teacher.detach(), 1))


class SupernetTraining:
    """Trains a supernet, epoch by epoch.

    Args:
        supernet: Supernet whose weights are trained in place.
        sampling: Sampling of the networks of a step.
        epochs: Number of epochs; None is that of the problem's training.
        seed: Random seed of every random choice.
        device: Where the weights are trained: cpu or cuda.
        learning_rate: Learning rate; None is that of the problem's training.
        folder: Folder of the state after each epoch; None keeps none.
        on_batch: Called after each step.
    """

    def __init__(
        self,
        supernet: Supernet,
        sampling: Sampling,
        *,
        epochs: int | None,
        seed: int,
        device: str,
        learning_rate: float | None,
        folder: Path | None,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> None:
        if epochs is not None and epochs < 1:
            raise UserError(f"epochs is {epochs}; give a number from 1.")
        if learning_rate is not None and not (learning_rate > 0 and math.isfinite(learning_rate)):
            raise UserError(f"learning_rate is {learning_rate}; give a number above 0.")
        self._supernet, self._folder, self._device, self._seed = supernet, folder, device, seed
        if supernet.problem.training.compile:
            raise UserError(
                "training.compile is true, and a supernet computes with other networks in each step, each of which "
                "would be compiled; set it to false."
            )
        if isinstance(sampling, Progressive) and not isinstance(supernet.problem, Supervised):
            raise UserError(
                f"sampling 'progressive' goes by the steps of the training, which are not known where the problem "
                f"{type(supernet.problem).__name__} has a fit of its own; take 'sandwich'."
            )
        self._step = _Step(supernet, sampling, seed)
        self._rate, self._on_batch = learning_rate, on_batch
        config = supernet.problem.training
        self._epochs = config.epochs if epochs is None else epochs
        about = {
            "space": [[decision.name, list(decision.options)] for decision in supernet.space.decisions],
            "sampling": type(sampling).__name__.lower(),
            "epochs": self._epochs,
            "seed": seed,
            "learning_rate": learning_rate,
            "training": config.model_dump(mode="json", exclude={"epochs"}),
            "data": supernet.problem.digest,
            "start": _digest(supernet.weights),
        }
        self._about = json.dumps(about, sort_keys=True)

    def run(self, on_epoch: Callable[[EpochDone], None] | None = None) -> None:
        """Train to the last epoch; the weights are on the CPU afterwards."""
        problem, started = self._supernet.problem, time.monotonic()

        def done(number: int, loss: float) -> None:
            if on_epoch is not None:
                on_epoch(EpochDone(number, self._epochs, loss, time.monotonic() - started))

        if isinstance(problem, Supervised):
            self._run_resumable(problem, done)
        else:

            def report(epoch: int, metrics: Any) -> bool:
                done(epoch, float(metrics.get("train_loss", float("nan"))))
                return True

            problem.fit(
                self._step,
                epochs=self._epochs,
                seed=self._seed,
                device=self._device,
                report=report,
                loss=self._step.loss,
                learning_rate=self._rate,
                on_batch=self._on_batch,
            )
        self._step.to("cpu")
        self._supernet.epochs += self._epochs

    def _run_resumable(self, problem: Supervised, done: Callable[[int, float], None]) -> None:
        training = problem.begin(
            self._step,
            seed=self._seed,
            epochs=self._epochs,
            device=self._device,
            accumulate=1,
            deadline=None,
            loss=self._step.loss,
            learning_rate=self._rate,
            max_gradient_norm=MAX_GRADIENT_NORM,
            on_batch=self._on_batch,
        )
        self._step.steps = training.epochs * training.steps_per_epoch
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)  # what cannot be written to is known before the first epoch
        saved = self._saved()
        if saved is not None:
            training.load_state_dict(saved)
        while training.epoch < training.epochs:
            epoch = training.run_epoch()
            if self._folder is not None:
                TensorFiles(self._folder).save(STATE, training.state_dict(), {"of": self._about})
            done(epoch.number, epoch.loss)
        training.finish()

    def _saved(self) -> dict[str, Tensor] | None:
        """The state that an interrupted training of the same kind left; UserError if it is of another kind."""
        if self._folder is None:
            return None
        try:
            tensors, metadata = TensorFiles(self._folder).load(STATE)
        except (OSError, *DAMAGED):
            return None
        if metadata.get("of") != self._about:
            theirs, ours = json.loads(metadata.get("of", "{}")), json.loads(self._about)
            names = ", ".join(name for name in ours if theirs.get(name) != ours[name])
            raise UserError(
                f"{self._folder} holds the training of another supernet, which differs in {names}; take another "
                f"folder, or remove {STATE} in it."
            )
        return tensors


def _digest(weights: SharedWeights) -> str:
    digest = hashlib.sha256()
    for name, value in weights.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
