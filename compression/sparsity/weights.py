"""Which weights of a network can be made sparse."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from nasbench_registry import UserError, unknown

_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class Weight:
    """A parameter by its place, for training may put another one there.

    Attributes:
        module: that holds it.
        name: of the parameter in the module.
    """

    module: nn.Module
    name: str

    @property
    def value(self) -> nn.Parameter:
        """(outputs, inputs of a group, ...)."""
        found = getattr(self.module, self.name)
        assert isinstance(found, nn.Parameter), f"{self.name} of a {type(self.module).__name__} is no parameter"
        return found


def find_weights(model: nn.Module, exclude: Sequence[str] = ()) -> tuple[dict[str, Weight], dict[str, str]]:
    """Weights of convolutions, linear layers and attention.

    Depthwise convolutions are left alone, as by Zhu & Gupta: they hold few weights, and an output needs each of them.

    Args:
        model: any network.
        exclude: names of modules, or patterns of names such as "features.*"; modules inside of them are left alone too.

    Returns:
        {layer: weight} and {layer: why it is left alone}. A layer has the name of its module; a weight that is not
        called `weight` has its own name after it.

    Raises:
        UserError: a name or pattern in `exclude` fits no module.
    """
    modules = dict(model.named_modules())
    for pattern in exclude:
        if not fnmatch.filter(modules, pattern):
            raise unknown("module", pattern, [name for name in modules if name], where="in sparsify exclude")
    weights: dict[str, Weight] = {}
    left_alone: dict[str, str] = {}
    seen: set[int] = set()
    for path, module in modules.items():
        for name in _names(module):
            key = path if name == "weight" else f"{path}.{name}".lstrip(".")
            weight = Weight(module, name)
            excluding = next((pattern for pattern in exclude if _covers(pattern, path)), None)
            if id(weight.value) in seen:
                left_alone[key] = "its weight is that of another layer"
            elif excluding is not None:
                left_alone[key] = f"{excluding!r} excludes it"
            elif isinstance(module, nn.Conv2d) and module.groups > 1 and module.groups == module.in_channels:
                left_alone[key] = "it is a depthwise convolution"
            else:
                weights[key] = weight
            seen.add(id(weight.value))
    return weights, left_alone


def check_exclude(exclude: object) -> tuple[str, ...]:
    """The option as a tuple; UserError if it is no list of names."""
    if isinstance(exclude, str) or not isinstance(exclude, Sequence) or not all(isinstance(x, str) for x in exclude):
        raise UserError(f"sparsify exclude is {exclude!r}; give a list of module names, such as [classifier].")
    return tuple(exclude)


def _names(module: nn.Module) -> list[str]:
    if isinstance(module, nn.Conv2d | nn.Linear):
        return ["weight"] if "weight" in module._parameters else []
    if isinstance(module, nn.MultiheadAttention):
        return [name for name in _ATTENTION if getattr(module, name) is not None]
    return []


def _covers(pattern: str, path: str) -> bool:
    parts = path.split(".")
    return any(fnmatch.fnmatchcase(".".join(parts[: length + 1]), pattern) for length in range(len(parts)))
