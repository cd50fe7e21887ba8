"""The shapes of a cut network as data, so that it can be built again without cutting."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

_SIZES = (
    *("in_channels", "out_channels", "groups", "in_features", "out_features"),
    *("num_features", "num_channels", "num_groups", "num_parameters", "normalized_shape"),
    *("heads", "num_heads"),
)


def _module_shapes(module: nn.Module) -> dict[str, Any]:
    # What a property tells, such as the channels of a wrapper's own convolution, follows from other sizes.
    kept = [name for name in _SIZES if not isinstance(getattr(type(module), name, None), property)]
    sizes = {name: getattr(module, name) for name in kept if isinstance(getattr(module, name, None), int | tuple)}
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return {
        "sizes": {name: list(size) if isinstance(size, tuple) else size for name, size in sizes.items()},
        "tensors": {name: list(tensor.shape) for name, tensor in own},
    }


def changed_shapes(before: nn.Module, after: nn.Module) -> dict[str, Any]:
    """Sizes and tensor shapes of every module of `after` that differ from `before`, by name; JSON."""
    old = {name: _module_shapes(module) for name, module in before.named_modules()}
    new = {name: _module_shapes(module) for name, module in after.named_modules()}
    return {name: shapes for name, shapes in new.items() if shapes != old[name]}


def with_shapes(model: nn.Module, shapes: dict[str, Any]) -> nn.Module:
    """A copy of `model` with these sizes; tensors whose shape changes are zero."""
    model = copy.deepcopy(model)
    for name, wanted in shapes.items():
        module = model.get_submodule(name)
        for size, value in wanted["sizes"].items():
            setattr(module, size, tuple(value) if isinstance(value, list) else value)
        for key, shape in wanted["tensors"].items():
            old = getattr(module, key)
            if list(old.shape) == shape:
                continue
            empty = torch.zeros(shape, dtype=old.dtype, device=old.device)
            is_parameter = isinstance(old, nn.Parameter)
            setattr(module, key, nn.Parameter(empty, requires_grad=old.requires_grad) if is_parameter else empty)
    return model
