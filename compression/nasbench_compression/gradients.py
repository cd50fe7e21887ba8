"""Gradients of the loss on calibration images, for what ranks channels or weights by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression.copying import copy_network, summary
from nasbench_compression.outputs import logits_of
from nasbench_registry import UserError


def learning_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, all of whose weights take gradients."""
    network = copy_network(model).eval()
    for parameter in network.parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.requires_grad_(True)
    return network


TaskLoss = Callable[[Any, Tensor], Tensor]
"""loss(what a network gives, labels) -> the mean over the batch, a scalar."""


def cross_entropy(outputs: Any, labels: Tensor) -> Tensor:
    """The mean cross-entropy of the logits in what a network gives."""
    return functional.cross_entropy(logits_of(outputs), labels)


def loss_gradients(
    network: nn.Module, images: Tensor, labels: Tensor, weights: Sequence[Tensor], loss: TaskLoss = cross_entropy
) -> tuple[Tensor | None, ...]:
    """The gradient of the loss with respect to each of the weights; None where nothing of it reaches the loss.

    Args:
        network: Network whose weights take gradients, see `learning_copy`.
        images: Inputs (n, ...) as the network takes them.
        labels: Class indices (n,), or whatever the loss takes.
        weights: Weights of the network with respect to which the gradient is taken.
        loss: Loss whose gradient is taken.

    Raises:
        UserError: There is no such gradient; the message says why.
    """
    try:
        with torch.enable_grad():
            value = loss(network(images), labels)
            learned = [weight for weight in weights if weight.requires_grad]
            gradients = iter(torch.autograd.grad(value, learned, allow_unused=True))
    except UserError:
        raise
    except Exception as error:  # whatever the user's network raises, or torch for labels that are no classes
        raise UserError(
            f"this importance reads the gradient of the loss, and this network has none on the calibration images and "
            f"labels ({summary(error)}); choose one that reads weights only, such as l2 of prune or magnitude of "
            f"sparsify."
        ) from error
    return tuple(next(gradients) if weight.requires_grad else None for weight in weights)
