"""What importances read from calibration images: gradients, their squares, activations."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nasbench_compression.step import Context, device_of
from nasbench_compression.surgery import inference
from nasbench_registry import UserError

BATCH = 16  # images whose gradient is one sample of it

Evidence = dict[str, Tensor]
"""By the name of a parameter (squared gradients), or of a module (activations of its input channels)."""


def nothing(model: nn.Module, context: Context, images: int) -> Evidence:
    """For importances that read weights only."""
    return {}


def squared_gradients(model: nn.Module, context: Context, images: int) -> Evidence:
    """Mean over small batches of so many calibration images of the squared gradient of their mean cross-entropy.

    In evaluation mode; of each parameter.

    Raises:
        UserError: the calibration images have no labels.
    """
    return _mean_square(model, context, images, batch=BATCH)


def fisher(model: nn.Module, context: Context, images: int) -> Evidence:
    """Mean over so many calibration images of the squared gradient of the cross-entropy of one; of each parameter.

    Raises:
        UserError: the calibration images have no labels.
    """
    return _mean_square(model, context, images, batch=1)


@torch.enable_grad()
def _mean_square(model: nn.Module, context: Context, images: int, *, batch: int) -> Evidence:
    """Squared gradients of the mean cross-entropy of a batch, each batch with the weight of its images."""
    total: Evidence = {}
    count = min(images, len(context.calibration))
    for inputs, labels, network in _labelled(model, context, images, batch=batch):
        loss = nn.functional.cross_entropy(network(inputs), labels)
        for name, gradient in _backward(network, loss):
            total[name] = total.get(name, 0) + gradient.pow(2) * (len(labels) / count)
    return total


def mean_activations(model: nn.Module, context: Context, images: int) -> Evidence:
    """Mean |x| of each input channel of each convolution and linear layer, over images and places: (channels,)."""
    sums: dict[str, tuple[Tensor, int]] = {}

    def watch(name: str, channel_dimension: int) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].detach().abs().movedim(channel_dimension, 0).flatten(1)
            total, count = sums.get(name, (torch.zeros(len(values), device=values.device), 0))
            sums[name] = (total + values.sum(1), count + values.shape[1])

        return hook

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            hooks.append(module.register_forward_pre_hook(watch(name, -1 if isinstance(module, nn.Linear) else 1)))  # type: ignore[arg-type]  # a hook of the right form
    try:
        with inference(model):
            for inputs in torch.split(context.calibration[:images], 32):
                model(inputs.to(device_of(model)))
    finally:
        for handle in hooks:
            handle.remove()
    return {name: total / count for name, (total, count) in sums.items()}


def _labelled(
    model: nn.Module, context: Context, images: int, *, batch: int
) -> Iterator[tuple[Tensor, Tensor, nn.Module]]:
    """Batches of images and labels, with a copy of the network that takes gradients."""
    if context.labels is None:
        raise UserError(
            "this importance reads the gradient of the loss, but the context has no labels of its calibration images; "
            "give Context labels, or choose an importance that reads weights only, such as l2."
        )
    device = device_of(model)
    network = copy.deepcopy(model).eval()
    network.requires_grad_(True)
    for start in range(0, min(images, len(context.calibration)), batch):
        chosen = slice(start, min(start + batch, images))
        inputs, labels = context.calibration[chosen], context.labels[chosen]
        yield inputs.to(device), labels.to(device), network


def _backward(network: nn.Module, loss: Tensor) -> Iterator[tuple[str, Tensor]]:
    named = list(network.named_parameters())
    found = torch.autograd.grad(loss, [parameter for _, parameter in named], allow_unused=True)
    for (name, _), gradient in zip(named, found, strict=True):
        if gradient is not None:
            yield name, gradient
