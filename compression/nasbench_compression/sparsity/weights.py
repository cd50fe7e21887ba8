"""Which weights of a network can be made sparse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from nasbench_compression.exclude import excluded

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
    fixed = excluded("sparsify", model, exclude)
    weights: dict[str, Weight] = {}
    left_alone: dict[str, str] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name in _names(module):
            key = path if name == "weight" else f"{path}.{name}".lstrip(".")
            weight = Weight(module, name)
            if id(weight.value) in seen:
                left_alone[key] = "its weight is that of another layer"
            elif path in fixed:
                left_alone[key] = f"{fixed[path]!r} excludes it"
            elif isinstance(module, nn.Conv2d) and module.groups > 1 and module.groups == module.in_channels:
                left_alone[key] = "it is a depthwise convolution"
            else:
                weights[key] = weight
            seen.add(id(weight.value))
    return weights, left_alone


def _names(module: nn.Module) -> list[str]:
    if isinstance(module, nn.Conv2d | nn.Linear):
        return ["weight"] if "weight" in module._parameters else []
    if isinstance(module, nn.MultiheadAttention):
        return [name for name in _ATTENTION if getattr(module, name) is not None]
    return []
