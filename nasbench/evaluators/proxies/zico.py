"""zico: how steady the gradients are from batch to batch (Li et al., ZiCo, ICLR 2023, arXiv 2301.11300)."""

from __future__ import annotations

import torch

from nasbench.evaluators.proxies.probe import Probe


def zico(probe: Probe) -> float:
    """The sum over layers of the logarithm of the sum of mean |g| / deviation of g over two batches, eq. 20.

    The batches are the halves of the images; weights whose gradient does not change are left out.
    """
    total = 0.0
    for first, second in zip(*(probe.loss_gradients(half) for half in probe.halves), strict=True):
        pair = torch.stack([first, second]).double()
        mean, deviation = pair.abs().mean(0), pair.std(0, unbiased=False)
        steady = float((mean[deviation > 0] / deviation[deviation > 0]).sum())
        if steady > 0:
            total += float(torch.log(torch.tensor(steady)))
    return total
