"""Train a network from its first epoch to its last."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from nasbench.data.dataset import Kind
from nasbench.data.split import Split
from nasbench.training.config import TrainingConfig
from nasbench.training.training import Loss, OnBatch, Training


def train(
    model: nn.Module,
    data: Split,
    config: TrainingConfig,
    *,
    seed: int,
    epochs: int | None = None,
    learning_rate: float | None = None,
    loss: Loss | None = None,
    targets: Kind | None = None,
    on_epoch: Callable[[int, float], bool] | None = None,
    device: torch.device | str = "cpu",
    accumulate: int = 1,
    deadline: float | None = None,
    on_batch: OnBatch | None = None,
) -> int:
    """Train in place, in an order of the images that only `seed` decides; leave the model on the CPU, in eval mode.

    Args:
        model: Network that takes the inputs of `data`, and gives what the loss takes.
        data: Examples that it is fitted on.
        config: Optimizer, schedule and the like.
        seed: Random seed of the order of the images, of their augmentation, and of dropout and the like.
        epochs: Number of epochs instead of `config.epochs`.
        learning_rate: Learning rate instead of `config.learning_rate`.
        loss: Loss (inputs, outputs, targets) -> scalar, instead of cross-entropy.
        targets: Kind of the targets; None is "classes".
        on_epoch: Called with the epoch (from 1) and its mean loss; False ends the training.
        device: Device to train on; see `Training`, as for the following.
        accumulate: Number of parts that a batch is divided into.
        deadline: Value of `time.monotonic()` that no batch may end after.
        on_batch: Called after each step of the optimizer, with the steps done and all there will be.

    Returns:
        The number of epochs that were trained.

    Raises:
        Diverged: The loss is not finite, or accuracy stays no better than guessing.
        TimedOut: The deadline is over.
        UserError: The device can do no training, or not in `config.precision`.
    """
    training = Training(
        model,
        data,
        config,
        seed=seed,
        epochs=epochs,
        learning_rate=learning_rate,
        loss=loss,
        targets=targets,
        device=device,
        accumulate=accumulate,
        deadline=deadline,
        on_batch=on_batch,
    )
    going = True
    while going and training.epoch < training.epochs:
        done = training.run_epoch()
        going = on_epoch is None or on_epoch(done.number, done.loss)
    training.finish()
    return training.epoch
