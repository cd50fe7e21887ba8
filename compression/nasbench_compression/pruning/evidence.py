"""What importances read from calibration images: gradients, their squares, activations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasbench_compression.gradients import learning_copy, loss_gradients
from nasbench_compression.outputs import is_wrapped
from nasbench_compression.step import Context, device_of, given
from nasbench_compression.surgery import inference

BATCH = 16  # images whose gradient is one sample of it

Evidence = dict[str, Tensor]
"""By the name of a parameter (squared gradients), or of a module (activations of its input channels)."""


def nothing(model: nn.Module, context: Context, images: int) -> Evidence:
    """For importances that read weights only."""
    return {}


def squared_gradients(model: nn.Module, context: Context, images: int) -> Evidence:
    """Mean over small batches of so many calibration images of the squared gradient of their mean cross-entropy.

    In evaluation mode; of each parameter.
    """
    return _mean_square(model, context, images, batch=BATCH)


def fisher(model: nn.Module, context: Context, images: int) -> Evidence:
    """Mean over so many calibration images of the squared gradient of the cross-entropy of one; of each parameter."""
    return _mean_square(model, context, images, batch=1)


def _mean_square(model: nn.Module, context: Context, images: int, *, batch: int) -> Evidence:
    """Squared gradients of the mean cross-entropy of a batch, each batch with the weight of its images."""
    network, device = learning_copy(model), device_of(model)
    names, weights = zip(*network.named_parameters(remove_duplicate=False), strict=True)
    total: Evidence = {}
    calibration, classes = given(context.calibration), given(context.labels)
    count = min(images, len(calibration))
    for start in range(0, count, batch):
        chosen = slice(start, min(start + batch, count))
        inputs, labels = calibration[chosen].to(device), classes[chosen].to(device)
        gradients = loss_gradients(network, inputs, labels, weights, context.task_loss)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None:
                total[name] = total.get(name, 0) + gradient.abs().pow(2) * (len(labels) / count)
    return total


def mean_activations(model: nn.Module, context: Context, images: int) -> Evidence:
    """Mean |x| of each input channel of each convolution and linear layer, over images and places: (channels,)."""
    sums: dict[str, tuple[Tensor, int]] = {}

    def watch(name: str, channel_dimension: int) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], options: dict[str, Tensor]) -> None:
            layer_input = (*inputs, *options.values())[0]
            if is_wrapped(layer_input):  # where the channels of all that it stands for are is not known
                return
            values = layer_input.detach().abs().movedim(channel_dimension, 0).flatten(1)
            total, count = sums.get(name, (torch.zeros(len(values), device=values.device), 0))
            sums[name] = (total + values.sum(1), count + values.shape[1])

        return hook

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            hook = watch(name, -1 if isinstance(module, nn.Linear) else -1 - len(module.kernel_size))
            hooks.append(module.register_forward_pre_hook(hook, with_kwargs=True))  # type: ignore[arg-type]  # a hook of the right form
    try:
        with inference(model):
            for inputs in torch.split(given(context.calibration)[:images], 32):
                model(inputs.to(device_of(model)))
    finally:
        for handle in hooks:
            handle.remove()
    return {name: total / count for name, (total, count) in sums.items()}
