"""Weights that were set to zero and have to stay so while a network is trained further.

A module carries the names of such weights as a plain attribute, which copies and structured pruning leave on it. Which
of the values are zero, the weights themselves say: there is no mask to be stored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

MARK = "_keeps_zeros"


def keep_zeros(module: nn.Module, name: str = "weight") -> None:
    """Mark a parameter of `module`: from now on, fine-tuning leaves its zeros at zero."""
    names: tuple[str, ...] = getattr(module, MARK, ())
    if name not in names:
        setattr(module, MARK, (*names, name))


def marked(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Each weight that keeps its zeros: name of the module, the module, name of the parameter in it."""
    for path, module in model.named_modules():
        for name in getattr(module, MARK, ()):
            yield path, module, name


def pass_mark(old: nn.Module, new: nn.Module) -> None:
    """Mark in `new`, which takes the place of `old`, what is marked there and has the same shape in both."""
    for name in getattr(old, MARK, ()):
        parameter = getattr(new, name, None)
        if isinstance(parameter, nn.Parameter) and parameter.shape == getattr(old, name).shape:
            keep_zeros(new, name)


@contextlib.contextmanager
def zeros_kept(model: nn.Module) -> Iterator[Callable[[], None] | None]:
    """Train inside the block without touching the zeros that are marked.

    Gradients of these zeros are zero, so that neither the clipping of gradients nor the moments of an optimizer see
    them. What is yielded sets them to zero again, for an optimizer that moves weights without a gradient; it is None
    if the network has no marked weight.
    """
    masks = [(module, name, getattr(module, name).detach() != 0) for _, module, name in marked(model)]
    hooks = [
        getattr(module, name).register_hook(_masking(mask))
        for module, name, mask in masks
        if getattr(module, name).requires_grad
    ]

    def set_to_zero() -> None:
        with torch.no_grad():
            for module, name, mask in masks:
                weight: Tensor = getattr(module, name)
                weight.mul_(mask.to(weight.device))

    try:
        yield set_to_zero if masks else None
    finally:
        for hook in hooks:
            hook.remove()


def _masking(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient * mask.to(gradient.device)
