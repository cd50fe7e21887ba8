"""Which weights of a network can be made sparse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nasbench_compression.attention import no_fast_path
from nasbench_compression.exclude import excluded
from nasbench_compression.outputs import memory_of
from nasbench_compression.surgery import inference, why_computed

_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class Weight:
    """A parameter by its place, for training may put another one there.

    Attributes:
        module: Module that holds the parameter.
        name: Name of the parameter in the module.
    """

    module: nn.Module
    name: str

    @property
    def value(self) -> nn.Parameter:
        """The parameter, (outputs, inputs of a group, ...)."""
        parameter = getattr(self.module, self.name)
        assert isinstance(parameter, nn.Parameter), f"{self.name} of a {type(self.module).__name__} is no parameter"
        return parameter


def find_weights(model: nn.Module, exclude: Sequence[str] = ()) -> tuple[dict[str, Weight], dict[str, str]]:
    """Weights of convolutions, linear layers and attention.

    Depthwise convolutions are left alone, as by Zhu & Gupta: they hold few weights, and an output needs each of them.

    Args:
        model: Any network.
        exclude: Names of modules, or patterns of names such as "features.*"; modules inside of them are left alone too.

    Returns:
        {layer: weight} and {layer: why it is left alone}. A layer has the name of its module; a weight that is not
        called `weight` has its own name after it.

    Raises:
        UserError: A name or pattern in `exclude` fits no module.
    """
    fixed = excluded("sparsify", model, exclude)
    weights: dict[str, Weight] = {}
    left_alone: dict[str, str] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name in _names(module):
            key = path if name == "weight" else f"{path}.{name}".lstrip(".")
            weight = Weight(module, name)
            reason = _why_unfit(module, name)
            if reason is not None:
                left_alone[key] = reason
                continue
            if id(weight.value) in seen:
                left_alone[key] = "its weight is that of another layer"
            elif path in fixed:
                left_alone[key] = f"{fixed[path]!r} excludes it"
            elif isinstance(module, _CONVOLUTIONS) and 1 < module.groups == module.in_channels:
                left_alone[key] = "it is a depthwise convolution"
            else:
                weights[key] = weight
            seen.add(id(weight.value))
    return weights, left_alone


def multiplied(model: nn.Module, inputs: Tensor, weights: Mapping[str, Weight]) -> set[str]:
    """Names of the weights with which some convolution or matrix product computes as they are, or with parts of them.

    Args:
        model: Network that runs once in evaluation mode.
        inputs: Images (n, c, h, w) on the device of the network.
        weights: Weights of this network.
    """
    watch = _Products()
    with inference(model), no_fast_path(), watch:
        model(inputs)
    return {name for name, weight in weights.items() if memory_of(weight.value) in watch.memories}


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Notes the memory of what operations multiply with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.memories: set[int | None] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation."""
        if any(word in func.overloadpacket.__name__ for word in ("conv", "mm", "linear", "mv")):
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.memories.update(memory_of(tensor) for tensor in tensors)
        return func(*args, **(kwargs or {}))


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _names(module: nn.Module) -> list[str]:
    if isinstance(module, nn.modules.conv._ConvNd | nn.Linear | nn.RNNBase):
        return ["weight"]
    if isinstance(module, nn.MultiheadAttention):
        return [name for name in _ATTENTION if getattr(module, name) is not None]
    return []


def _why_unfit(module: nn.Module, name: str) -> str | None:
    """Why the weight of a module is no candidate; None if it is one."""
    computed = why_computed(module)
    if computed is not None:
        return computed
    if isinstance(module, nn.RNNBase | nn.modules.conv._ConvTransposeNd):
        return f"weights of the class {type(module).__name__} stay dense"
    weight = module._parameters.get(name)
    if weight is None:
        return "its weight is no parameter"
    return None if weight.is_floating_point() else f"its weight is of type {str(weight.dtype).removeprefix('torch.')}"
