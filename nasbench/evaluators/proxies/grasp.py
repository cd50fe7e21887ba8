"""grasp: what the flow of gradients would lose without a weight (Wang, Zhang & Grosse, GraSP, arXiv 2002.07376)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from nasbench.evaluators.proxies.probe import Probe
from nasbench_registry import UserError

FEW = 8


def grasp(probe: Probe) -> float:
    """The sum of -w (H g) over the weights, eq. 8, with the Hessian H and the gradient g of the loss.

    Summed as in Abdelfattah et al., arXiv 2101.08134. Deviation: on eight images, for the second derivative takes as
    long as all other proxies together.

    Raises:
        UserError: There are no targets or no loss, or an operation of the network has no second derivative.
    """
    if probe.targets is None:
        Probe.loss_gradients(probe.halves[0])  # says what is missing
        return 0.0
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():  # the other kernels have no second derivative
        with TwiceDifferentiable():
            outputs = probe.network(probe.images[:FEW])
        loss = probe.loss(outputs, probe.targets[:FEW])
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
        try:
            products = torch.autograd.grad(inner, [weight for weight, _ in used], allow_unused=True)
        except RuntimeError as error:
            raise UserError(f"zero-cost proxy 'grasp' needs second derivatives ({error}); use another proxy.") from None
    return -float(
        sum(
            (weight.detach() * product).sum()
            for (weight, _), product in zip(used, products, strict=True)
            if product is not None
        )
    )


class TwiceDifferentiable(TorchFunctionMode):
    """Computes a hard sigmoid by a ReLU6, which is the same: PyTorch has no second derivative of the former."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch."""
        if func is functional.hardsigmoid:
            return functional.relu6(args[0] + 3) / 6
        return func(*args, **(kwargs or {}))
