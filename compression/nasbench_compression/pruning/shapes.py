"""The shapes of a cut network as data, so that it can be built again without cutting."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nasbench_compression.copying import copy_network


def _module_shapes(module: nn.Module) -> dict[str, dict[str, Any]]:
    """Whole numbers that a module keeps itself, also in tuples and lists, and the shapes of its tensors.

    What a property tells, such as the channels of a wrapper's own convolution, follows from those of others.
    """
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    numbers = {name: value for name, value in vars(module).items() if _is_whole(value)}
    return {
        "sizes": {name: list(value) if isinstance(value, tuple | list) else value for name, value in numbers.items()},
        "tensors": {name: list(tensor.shape) for name, tensor in tensors},
    }


def _is_whole(value: Any) -> bool:
    items = value if type(value) in (tuple, list) else (value,)
    return all(type(item) is int for item in items)


def changed_shapes(before: nn.Module, after: nn.Module) -> dict[str, Any]:
    """Numbers and tensor shapes of every module of `after` that differ from those in `before`, by name; JSON."""
    shapes = {}
    modules = dict(before.named_modules())
    for name, module in after.named_modules():
        old = _module_shapes(modules[name])
        changed = {
            kind: {key: size for key, size in sizes.items() if old[kind].get(key) != size}
            for kind, sizes in _module_shapes(module).items()
        }
        if any(changed.values()):
            shapes[name] = changed
    return shapes


def with_shapes(model: nn.Module, shapes: dict[str, Any]) -> nn.Module:
    """A copy of `model` with these sizes; tensors whose shape changes are zero, and modules that share one still do."""
    model = copy_network(model)
    resized: dict[int, torch.Tensor] = {}
    replaced = []  # so that no id is used again
    for name, changes in shapes.items():
        module = model.get_submodule(name)
        for size, value in changes["sizes"].items():
            setattr(module, size, type(getattr(module, size))(value) if isinstance(value, list) else value)
        for key, shape in changes["tensors"].items():
            old = getattr(module, key)
            replaced.append(old)
            if id(old) not in resized:
                empty = torch.zeros(shape, dtype=old.dtype, device=old.device)
                is_parameter = isinstance(old, nn.Parameter)
                resized[id(old)] = nn.Parameter(empty, requires_grad=old.requires_grad) if is_parameter else empty
            setattr(module, key, resized[id(old)])
    return model
