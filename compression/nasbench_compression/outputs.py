"""Outputs of a network, whatever form they have: a tensor, or several in a tuple, a list, a dict or a dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nasbench_registry import UserError


def tensors_of(output: Any) -> dict[str, Tensor]:
    """Every tensor of an output, by where it is in it: "logits", "0", "features.2"; "" is the output itself.

    Args:
        output: A tensor, or tuples, named tuples, lists, mappings (a ModelOutput is one) and dataclasses of tensors;
            anything else in them is left out.
    """
    if isinstance(output, Tensor):
        return {"": output}
    parts: dict[str, Any] = {}
    if isinstance(output, Mapping):
        parts = {str(key): part for key, part in output.items()}
    elif isinstance(output, tuple | list):
        names = getattr(output, "_fields", range(len(output)))
        parts = {str(name): part for name, part in zip(names, output, strict=True)}
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        parts = {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    return {
        f"{name}.{inner}".rstrip("."): tensor
        for name, part in parts.items()
        for inner, tensor in tensors_of(part).items()
    }


def logits_of(output: Any) -> Tensor:
    """The tensor that classifies: the output itself, what is called "logits", the first matrix, or the first tensor.

    Args:
        output: Output of a network, see `tensors_of`.

    Raises:
        UserError: There is no tensor in the output.
    """
    tensors = tensors_of(output)
    if not tensors:
        raise UserError(
            f"the network gives a {type(output).__name__} without any tensor in it; give a network that puts out "
            f"logits, alone or in a tuple, a list or a dict."
        )
    if "logits" in tensors:
        return tensors["logits"]
    matrices = [tensor for tensor in tensors.values() if tensor.ndim == 2 and tensor.is_floating_point()]
    return matrices[0] if matrices else next(iter(tensors.values()))


def memory_of(tensor: Tensor) -> int | None:
    """Address that tensors with shared memory have in common; None for one without memory, such as a sparse one."""
    if tensor.layout is not torch.strided or tensor.numel() == 0 or is_wrapped(tensor):
        return None
    return tensor.untyped_storage().data_ptr() or None


def is_wrapped(tensor: Tensor) -> bool:
    """Whether a tensor exists only inside of a function that `torch.vmap` or `torch.func` calls."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def unwrapped(tensor: Tensor) -> Tensor:
    """All values that a tensor inside of such a function stands for, in a shape of their own; others as they are."""
    while is_wrapped(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def difference(output: Any, expected: Any) -> float:
    """How far an output is from what is expected, in units of the largest expected value.

    Every tensor has a largest value of its own, and the tensor that is farthest off counts. Where both are infinite
    alike or both NaN, there is no difference.

    Args:
        output: Output of a network, see `tensors_of`.
        expected: Output of another network for the same inputs.

    Returns:
        From 0; infinite where there are other tensors than expected, shapes differ, or one of them only is finite.
    """
    ours, theirs = tensors_of(output), tensors_of(expected)
    if ours.keys() != theirs.keys() or any(ours[name].shape != theirs[name].shape for name in ours):
        return float("inf")
    return max((_apart(ours[name], theirs[name]) for name in ours), default=0.0)


def _apart(output: Tensor, expected: Tensor) -> float:
    if output.is_complex() or expected.is_complex():
        return _apart(*(torch.view_as_real(value.to(torch.complex64)) for value in (output, expected)))
    output, expected = output.detach().double().cpu(), expected.detach().double().cpu()
    alike = (output == expected) | (output.isnan() & expected.isnan())
    if bool(alike.all()):
        return 0.0
    finite = expected[expected.isfinite()].abs()
    largest = float(finite.max()) if len(finite) else 0.0
    apart = float(torch.where(alike, 0.0, (output - expected).abs()).nan_to_num(nan=float("inf")).max())
    return apart / largest if largest > 0 else float("inf")
