"""Statistics of batch norm that fit a network whose weights were changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasbench_compression.copying import summary
from nasbench_compression.step import Context, device_of
from nasbench_compression.surgery import inference

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # not the one that waits for other processes

_BATCH = 64


def refresh_statistics(model: nn.Module, context: Context) -> dict[str, Any] | None:
    """Take the statistics of batch norm anew from the calibration images, if the network validates better with them.

    The running averages of a training lag behind weights that changed shortly before its end, or are of weights that
    are gone. Without that comparison, a few calibration images could replace averages over a whole training set.

    Args:
        model: Network; only its statistics are changed, in place.
        context: Context with the calibration images and `evaluate`, which is called twice.

    Returns:
        JSON: `val_acc_pct` as [with the old statistics, with the new ones], `refreshed`, whether the new ones are kept,
        and `images`; or `refreshed` false and a `reason`. None if the network has no such statistics.
    """
    norms = norms_of(model)
    if not norms:
        return None
    evaluate, images = context.evaluate, context.calibration
    if evaluate is None or images is None:
        return {"refreshed": False, "reason": "the context has no calibration images, or no evaluate to judge them by"}
    before = float(evaluate(model))
    old_statistics = [[values.clone() for values in _statistics(norm)] for norm in norms]
    try:
        estimate_statistics(model, norms, images)
    except Exception as error:  # whatever the user's network raises while batch norm is in training mode
        _put(norms, old_statistics)
        return {"refreshed": False, "reason": f"it fails with batch norm in training mode ({summary(error)})"}
    after = float(evaluate(model))
    if not after > before:
        _put(norms, old_statistics)
    return {"refreshed": after > before, "val_acc_pct": [before, after], "images": len(images)}


def norms_of(model: nn.Module) -> list[BatchNorm]:
    """The batch norms of a network that keep statistics."""
    return [module for module in model.modules() if isinstance(module, _KINDS) and module.running_mean is not None]


def estimate_statistics(model: nn.Module, norms: Sequence[BatchNorm], inputs: Tensor | tuple[Tensor, ...]) -> None:
    """Let statistics be the means over batches of inputs, each of which these norms normalize by itself.

    Args:
        model: Network; it runs in evaluation mode but for these norms, and without gradients.
        norms: Batch norms of the network whose statistics are estimated.
        inputs: Inputs (n, ...), one tensor or as many as the network takes.
    """
    tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    batches = max(1, len(tensors[0]) // _BATCH)
    settings = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        with inference(model):
            for norm in norms:
                mean, variance = _statistics(norm)
                mean.zero_()
                variance.fill_(1)
                norm.momentum = None  # the mean over all batches, which it counts
                norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=mean.device)
                norm.training = True
            for batch in zip(*(torch.tensor_split(tensor, batches) for tensor in tensors), strict=True):
                model(*(tensor.to(device_of(model)) for tensor in batch))
    finally:
        for norm, (momentum, count) in zip(norms, settings, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def _statistics(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None, "only norms with statistics are asked"
    return norm.running_mean, norm.running_var


def _put(norms: Sequence[BatchNorm], statistics: Sequence[Sequence[Tensor]]) -> None:
    for norm, values in zip(norms, statistics, strict=True):
        for buffer, value in zip(_statistics(norm), values, strict=True):
            buffer.copy_(value)
