"""DARTS: a softmax over the operations of each edge, moved by bilevel optimization (Liu et al. 2019, arXiv 1806.09055).

The paper minimizes the validation loss of weights that are themselves trained, L_val(w*(alpha), alpha), and takes one
step of SGD with rate xi for w*: w' = w - xi * update(grad_w L_train(w, alpha)). Then

    grad = grad_alpha L_val(w', alpha) - xi * (d/d alpha d/d w L_train(w, alpha)) grad_w' L_val(w', alpha)

and the product with the mixed second derivative is a difference of grad_alpha L_train at w +- eps * grad_w' L_val, with
eps = 0.01 / |grad_w' L_val|. First order is xi = 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nasbench.supernet.differentiable.method import Method, Step
from nasbench.supernet.differentiable.mixed import EdgeWeights
from nasbench_registry import UserError
from search_spaces import EdgeSpace

DISTANCE = 0.01


class DARTS(Method):
    """Deviation from the paper: the step that is looked ahead is that of our optimizer, SGD with Nesterov momentum.

    Args:
        space: Search space whose edges are mixed.
        seed: Random seed of the first parameters.
        order: Order of the gradients: 1 or 2.
    """

    name = "darts"
    summary = "softmax over the operations of each edge, bilevel, first or second order"
    source = "Liu et al. 2019, arXiv 1806.09055"

    def __init__(self, space: EdgeSpace, *, seed: int, order: int = 1) -> None:
        super().__init__(space, seed=seed)
        if order not in (1, 2):
            raise UserError(f"order={order!r} of controller 'darts' must be 1 or 2.")
        self.order = order

    def weights(self) -> list[EdgeWeights]:
        """The softmax of the parameters of each edge."""
        return [EdgeWeights(torch.softmax(alpha, 0)) for alpha in self.alphas]

    def gradients(self, step: Step) -> None:
        """Set the gradients of the parameters, of first or of second order."""
        if self.order == 1:
            super().gradients(step)
            return
        alphas, weights = list(self.alphas), list(step.parameters)
        before = [weight.detach().clone() for weight in weights]
        training = torch.autograd.grad(step.train_loss(), weights, allow_unused=True)
        updates = step.updates({w: g for w, g in zip(weights, training, strict=True) if g is not None})
        with torch.no_grad():
            for weight in weights:
                if weight in updates:
                    weight.sub_(step.rate * updates[weight])
        of_alphas, of_weights = _split(
            torch.autograd.grad(step.val_loss(), alphas + weights, allow_unused=True), alphas
        )
        length = float(torch.stack([g.square().sum() for g in of_weights if g is not None]).sum().sqrt())
        eps = DISTANCE / max(length, 1e-12)
        sides: list[Sequence[torch.Tensor]] = []
        for sign in (1, -1):
            with torch.no_grad():
                for weight, start, direction in zip(weights, before, of_weights, strict=True):
                    weight.copy_(start if direction is None else start + sign * eps * direction)
            sides.append(torch.autograd.grad(step.train_loss(), alphas))
        with torch.no_grad():
            for weight, start in zip(weights, before, strict=True):
                weight.copy_(start)
        self.set_gradients(
            [
                gradient - step.rate * (plus - minus) / (2 * eps)
                for gradient, plus, minus in zip(of_alphas, *sides, strict=True)
            ]
        )


def _split(
    gradients: Sequence[torch.Tensor | None], alphas: Sequence[torch.Tensor]
) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    """The gradients of the parameters of the method, which are all there, and those of the weights."""
    first = [gradient for gradient in gradients[: len(alphas)] if gradient is not None]
    assert len(first) == len(alphas), "every edge is in the network"
    return first, list(gradients[len(alphas) :])
