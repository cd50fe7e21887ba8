"""grasp: what the flow of gradients would lose without a weight (Wang, Zhang & Grosse, GraSP, arXiv 2002.07376)."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from nasbench.evaluators.proxies.probe import Probe
from nasbench_registry import UserError

FEW = 8


def grasp(probe: Probe) -> float:
    """The sum of -w (H g) over the weights, eq. 8, with the Hessian H and the gradient g of the loss.

    Summed as in Abdelfattah et al., arXiv 2101.08134. Deviation: on eight images, for the second derivative takes as
    long as all other proxies together.
    """
    if probe.targets is None:
        Probe.loss_gradients(probe.halves[0])  # says what is missing
        return 0.0
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():  # the other kernels have no second derivative
        loss = probe.loss(probe.network(probe.images[:FEW]), probe.targets[:FEW])
        if loss is None:
            raise UserError("the problem has no loss that a proxy could take the gradient of; define Problem.loss.")
        gradients = torch.autograd.grad(loss, probe.weights, create_graph=True, allow_unused=True)
        used = [
            (weight, gradient)
            for weight, gradient in zip(probe.weights, gradients, strict=True)
            if gradient is not None and gradient.requires_grad
        ]
        if not used:
            return 0.0
        inner = torch.stack([(gradient.detach() * gradient).sum() for _, gradient in used]).sum()
        products = torch.autograd.grad(inner, [weight for weight, _ in used], allow_unused=True)
    return -float(
        sum(
            (weight.detach() * product).sum()
            for (weight, _), product in zip(used, products, strict=True)
            if product is not None
        )
    )
