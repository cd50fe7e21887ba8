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
    twin = learning_copy(model)
    places = {module: name for name, module in model.named_modules()}
    same = {name: getattr(twin.get_submodule(places[weight.module]), weight.name) for name, weight in weights.items()}
    device = next(iter(same.values())).device
    gradients = [torch.zeros_like(weight) for weight in same.values()]
    for batch, targets in zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True):
        batch_gradients = loss_gradients(twin, batch.to(device), targets.to(device), list(same.values()), loss)
        for total, gradient in zip(gradients, batch_gradients, strict=True):
            if gradient is not None:
                total += gradient * (len(batch) / len(images))
    scored = zip(same, same.values(), gradients, strict=True)
    return {name: (weight.detach() * gradient).abs() for name, weight, gradient in scored}
