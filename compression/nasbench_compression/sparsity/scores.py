"""How much a single weight is worth, before any fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nasbench_compression.gradients import TaskLoss, cross_entropy, learning_copy, loss_gradients
from nasbench_compression.sparsity.weights import Weight

_BATCH = 64


def magnitude_scores(weights: Mapping[str, Weight]) -> dict[str, Tensor]:
    """|w|; Han et al., Learning both Weights and Connections for Efficient Neural Networks, NeurIPS 2015."""
    return {name: weight.value.detach().abs() for name, weight in weights.items()}


def snip_scores(
    model: nn.Module,
    weights: Mapping[str, Weight],
    images: Tensor,
    labels: Tensor,
    loss: TaskLoss = cross_entropy,
) -> dict[str, Tensor]:
    """|w * dL/dw| with L the mean cross-entropy; Lee et al., SNIP, ICLR 2019, arXiv:1810.02340.

    That is how much the loss changes, to first order, if the weight is removed. Deviations: the paper scores a network
    before training, on one batch; here it is whatever network comes, in evaluation mode, on all images given. The
    paper's division by the sum of all scores is left out, as it changes no order.

    Args:
        model: Network that holds `weights`; it is not changed.
        weights: Weights to be scored.
        images: Images, (m, c, h, w).
        labels: Class indices (m,), or whatever the loss takes.
        loss: Mean loss of a batch.
    """
    learning_network = learning_copy(model)
    places = {module: name for name, module in model.named_modules()}
    twin_weights = {
        name: getattr(learning_network.get_submodule(places[weight.module]), weight.name)
        for name, weight in weights.items()
    }
    device = next(iter(twin_weights.values())).device
    gradients = [torch.zeros_like(weight) for weight in twin_weights.values()]
    for batch, targets in zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True):
        batch_gradients = loss_gradients(
            learning_network, batch.to(device), targets.to(device), list(twin_weights.values()), loss
        )
        for total, gradient in zip(gradients, batch_gradients, strict=True):
            if gradient is not None:
                total += gradient * (len(batch) / len(images))
    scored = zip(twin_weights, twin_weights.values(), gradients, strict=True)
    return {name: (weight.detach() * gradient).abs() for name, weight, gradient in scored}
