"""synflow: the flow through all weights (Tanaka et al., Pruning neural networks without any data, arXiv 2006.05467)."""

from __future__ import annotations

import copy

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from nasbench.evaluators.proxies.probe import Probe
from nasbench_compression.outputs import tensors_of


def synflow(probe: Probe) -> float:
    """The logarithm of the sum of |w dR/dw|, where R is what the network with weights |w| gives for an image of ones.

    Eq. 3, summed as in Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, arXiv 2101.08134. Batch norms pass
    what they get times |their weights|, whatever they were trained on. Only the shape of the images is read.
    """
    network = copy.deepcopy(probe.original).double().eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.abs_()
    with torch.enable_grad():
        network.requires_grad_(True)
        outputs = tensors_of(network(torch.ones(1, *probe.images.shape[1:], dtype=torch.float64)))
        total = torch.stack([output.sum() for output in outputs.values() if output.is_floating_point()]).sum()
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    flow = sum(
        float((parameter.detach() * gradient).abs().sum())
        for parameter, gradient in zip(parameters, gradients, strict=True)
        if gradient is not None
    )
    return float(torch.log(torch.tensor(max(flow, 1e-300), dtype=torch.float64)))
