"""Structural re-parameterization: branches that train better are merged into one layer for deployment.

Ding et al., RepVGG: Making VGG-style ConvNets Great Again, CVPR 2021, arXiv 2101.03697.
"""

from __future__ import annotations

from torch import nn

from nasbench_compression.copying import copy_network
from nasbench_compression.surgery import attached
from nasbench_registry import UserError

_MERGED = "_merged_in_place"
"""Attribute of a module whose branches were merged in place."""


def reparameterize(model: nn.Module) -> nn.Module:
    """The network in which every module that knows a simpler form of itself has that form.

    Such a module has a method ``reparameterize()`` that returns a new module which computes the same in eval mode,
    or a copy of itself where it cannot; a method that changes its module in place and returns None, as in timm, will
    do as well. In training mode, where batch norm sees the batch, the two may differ. A module stays as it is if a hook
    or a method of its own hangs on it or on a part of it, for they would be lost.

    Args:
        model: Network; it is not changed.

    Returns:
        A copy; or `model` itself, not copied, if it has no such module.

    Raises:
        UserError: The method of a module returns something else.
    """
    if not any(_has_simpler_form(module) for module in model.modules()):
        return model
    return _simplify(copy_network(model), {})


def _has_simpler_form(module: nn.Module) -> bool:
    return (
        callable(getattr(module, "reparameterize", None))
        and not getattr(module, _MERGED, False)
        and all(attached(part) is None for part in module.modules())
    )


def _simplify(module: nn.Module, done: dict[nn.Module, nn.Module]) -> nn.Module:
    """Replace in place; `done` keeps a module that has several names one module."""
    if module in done:
        return done[module]
    if _has_simpler_form(module):
        simpler: object = module.reparameterize()  # type: ignore[operator]  # it is callable, as was just seen
        if simpler is None:  # it changed in place, and need not bear to be asked again
            simpler = module
            setattr(module, _MERGED, True)
        if not isinstance(simpler, nn.Module):
            raise UserError(
                f"{type(module).__name__}.reparameterize() returned {simpler!r}; "
                f"it must return the module to be deployed."
            )
    else:
        simpler = module
    done[module] = simpler
    for name, child in list(simpler._modules.items()):
        if child is not None:
            setattr(simpler, name, _simplify(child, done))
    return simpler
