"""Train a network and say how good it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from nasbench.config.experiment import TrainingConfig
from nasbench.data import Split

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Diverged(Exception):
    """The loss stopped being a finite number."""


@dataclass(frozen=True)
class Score:
    """How good a network is on a split.

    Attributes:
        accuracy_pct: share of images whose largest logit is the label, in percent.
        loss: mean cross-entropy.
    """

    accuracy_pct: float
    loss: float


def train(
    model: nn.Module,
    data: Split,
    config: TrainingConfig,
    *,
    seed: int,
    epochs: int | None = None,
    learning_rate: float | None = None,
    loss: Loss | None = None,
    on_epoch: Callable[[int, float], bool] | None = None,
) -> int:
    """Train in place, in an order of the images that only `seed` decides; leave the model in eval mode.

    The learning rate rises linearly over `config.warmup_epochs` (at most a fifth of the epochs) and then falls along
    a cosine to zero (Loshchilov & Hutter 2017, arXiv 1608.03983). Gradients are clipped at norm 5. Tensors are held
    channels-last meanwhile, which the convolutions of a CPU prefer, depthwise ones most of all.

    Args:
        model: (n, c, h, w) -> (n, classes) logits.
        data: what it is fitted on.
        config: optimizer and schedule.
        seed: of the order of the images, and of dropout and the like.
        epochs: instead of `config.epochs`.
        learning_rate: instead of `config.learning_rate`.
        loss: (inputs, logits, labels) -> scalar, instead of cross-entropy.
        on_epoch: called with the epoch (from 1) and its mean loss; False ends the training.

    Returns:
        The number of epochs that were trained.

    Raises:
        Diverged: the loss is not finite.
    """
    epochs = config.epochs if epochs is None else epochs
    rate = config.learning_rate if learning_rate is None else learning_rate
    criterion = loss or _cross_entropy(config.label_smoothing)
    optimizer = _optimizer(model, config, rate)
    batches = max(1, len(data) // config.batch_size)  # the last, smaller batch is left out: batch norm dislikes it
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_cosine(batches, epochs, config.warmup_epochs))
    generator = torch.Generator().manual_seed(seed)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves this form out
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for epoch in range(1, epochs + 1):
            model.train()
            order = torch.randperm(len(data), generator=generator)
            total = 0.0
            for start in range(0, batches * config.batch_size, config.batch_size):
                rows = order[start : start + config.batch_size]
                inputs = data.images[rows].contiguous(memory_format=torch.channels_last)
                labels = data.labels[rows]
                value = criterion(inputs, model(inputs), labels)
                number = value.item()
                if not math.isfinite(number):
                    raise Diverged(f"the loss became {number} in epoch {epoch} of {epochs}; lower the learning rate")
                optimizer.zero_grad(set_to_none=True)
                value.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                schedule.step()
                total += number
            if on_epoch is not None and not on_epoch(epoch, total / batches):
                break
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model.eval()
    return epoch if epochs else 0


def score(predict: Callable[[torch.Tensor], torch.Tensor], data: Split, batch_size: int = 512) -> Score:
    """Accuracy and loss of anything that maps images to logits.

    Raises:
        Diverged: a logit is not finite.
    """
    correct, loss = 0, 0.0
    with torch.no_grad():
        for start in range(0, len(data), batch_size):
            labels = data.labels[start : start + batch_size]
            logits = predict(data.images[start : start + batch_size])
            if not bool(logits.isfinite().all()):
                raise Diverged("the network gives logits that are not finite")
            correct += int((logits.argmax(1) == labels).sum())
            loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
    return Score(100 * correct / len(data), loss / len(data))


def _cross_entropy(smoothing: float) -> Loss:
    return lambda inputs, logits, labels: nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)


def _optimizer(model: nn.Module, config: TrainingConfig, rate: float) -> torch.optim.Optimizer:
    # Weight decay on weights only: pulling biases and batch-norm scales to zero helps nobody.
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    free = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=rate)


def _warm_cosine(batches: int, epochs: int, warmup_epochs: float) -> Callable[[int], float]:
    steps = batches * epochs
    warm = int(batches * min(warmup_epochs, epochs / 5))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor
