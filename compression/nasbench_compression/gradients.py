"""Gradients of the loss on calibration images, for what ranks channels or weights by them."""

from __future__ import annotations

from collections.abc import Sequence

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


def loss_gradients(
    network: nn.Module, images: Tensor, labels: Tensor, weights: Sequence[Tensor], reduction: str = "mean"
) -> tuple[Tensor | None, ...]:
    """The gradient of the cross-entropy with respect to each of the weights; None where nothing of it reaches the loss.

    Args:
        network: see `learning_copy`.
        images: (n, c, h, w) as it takes them.
        labels: (n,) class indices.
        weights: of it.
        reduction: over the images, "mean" or "sum".

    Raises:
        UserError: there is no such gradient; says why.
    """
    try:
        with torch.enable_grad():
            loss = functional.cross_entropy(logits_of(network(images)), labels, reduction=reduction)
            learned = [weight for weight in weights if weight.requires_grad]
            gradients = iter(torch.autograd.grad(loss, learned, allow_unused=True))
    except UserError:
        raise
    except Exception as error:  # whatever the user's network raises, or torch for labels that are no classes
        raise UserError(
            f"this importance reads the gradient of the loss, and this network has none on the calibration images and "
            f"labels ({summary(error)}); choose one that reads weights only, such as l2 of prune or magnitude of "
            f"sparsify."
        ) from error
    return tuple(next(gradients) if weight.requires_grad else None for weight in weights)
