"""Networks that take several inputs, as networks of one: what steps and runtimes know."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nasbench_registry import UserError


@dataclass(frozen=True, kw_only=True)
class InputPart:
    """One of several inputs of a network.

    Attributes:
        name: Name of the argument of the network's forward; None for one that is given by its position.
        shape: Shape of one example, without the batch.
        dtype: Name of the type in torch, such as int64 for tokens.
    """

    name: str | None
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))

    @property
    def size(self) -> int:
        """Numbers of one example."""
        return math.prod(self.shape)

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {**dataclasses.asdict(self), "shape": list(self.shape)}


class Packed(nn.Module):
    """A network of several inputs that takes them as one: flat, side by side, (n, numbers of an example).

    It also takes them as several, in their order. Whole numbers are packed as int64, others as float32.

    Attributes:
        network: Network that takes the parts, each by its name or position, in its own shape and type.
        parts: Inputs of the network in the order in which they lie side by side.
    """

    def __init__(self, network: nn.Module, parts: Sequence[InputPart]) -> None:
        super().__init__()
        self.network = network
        self.parts = tuple(parts)

    def forward(self, *inputs: Tensor) -> Any:
        """Outputs of the network for the parts, or for (n, numbers of an example)."""
        values = inputs if len(inputs) == len(self.parts) else self._taken_apart(*inputs)
        arguments = [value for value, part in zip(values, self.parts, strict=True) if part.name is None]
        named = {part.name: value for value, part in zip(values, self.parts, strict=True) if part.name is not None}
        return self.network(*arguments, **named)

    def _taken_apart(self, inputs: Tensor) -> list[Tensor]:
        columns = torch.split(inputs, [part.size for part in self.parts], 1)
        return [
            values.reshape(-1, *part.shape).to(getattr(torch, part.dtype))
            for values, part in zip(columns, self.parts, strict=True)
        ]


def parts_of(example: Any) -> tuple[InputPart, ...]:
    """Name, shape and type of each input of an example, which is a mapping by argument, or a tuple or a list.

    Args:
        example: Tensors or arrays (n, ...).

    Raises:
        UserError: One of them is no batch.
    """
    named = example.items() if isinstance(example, Mapping) else ((None, value) for value in example)
    parts: list[InputPart] = []
    for name, value in named:
        tensor = torch.as_tensor(value)
        if tensor.ndim == 0 or len(tensor) == 0:
            raise UserError(
                f"input {name or len(parts)} of the example has shape {tuple(tensor.shape)}; give a batch, (n, ...)."
            )
        dtype = str(tensor.dtype).removeprefix("torch.")
        parts.append(InputPart(name=name, shape=tuple(tensor.shape[1:]), dtype=dtype))
    if not parts:
        raise UserError("the example has no inputs; give a tensor, a tuple of tensors, or a dict of them by argument.")
    return tuple(parts)


def packed(inputs: Any, parts: Sequence[InputPart]) -> Tensor:
    """Several inputs as `Packed` takes them.

    Args:
        inputs: Tensors or arrays (n, ...), in a mapping by name, or in a tuple or a list in the order of the parts.
        parts: Name, shape and type of each input.

    Returns:
        Tensor (n, numbers of an example), int64 or float32.

    Raises:
        UserError: There are others than the parts, or of other shapes.
    """
    if isinstance(inputs, Mapping):
        names = [part.name for part in parts]
        if set(inputs) != set(names):
            raise UserError(f"the inputs are {', '.join(map(str, inputs))}; give {', '.join(map(str, names))}.")
        inputs = [inputs[part.name] for part in parts]
    tensors = [torch.as_tensor(value) for value in inputs]
    if len(tensors) != len(parts):
        raise UserError(f"{len(tensors)} inputs are given, and the network takes {len(parts)}.")
    for tensor, part in zip(tensors, parts, strict=True):
        if tuple(tensor.shape[1:]) != part.shape or len(tensor) != len(tensors[0]):
            raise UserError(
                f"input {part.name or 'of the network'} has shape {tuple(tensor.shape)}; give ({len(tensors[0])}, "
                f"{', '.join(map(str, part.shape))}), as many examples as in the first input."
            )
    whole = {not getattr(torch, part.dtype).is_floating_point for part in parts}
    if len(whole) > 1:
        raise UserError(
            "inputs of whole numbers and of others cannot be packed into one tensor; let the forward of the network "
            "take numbers of one kind."
        )
    dtype = torch.int64 if whole == {True} else torch.float32
    return torch.cat([tensor.reshape(len(tensor), -1).to(dtype) for tensor in tensors], 1)


def one_tensor(inputs: Any) -> Tensor:
    """Inputs as one tensor: itself, or several packed."""
    return inputs if isinstance(inputs, Tensor) else packed(inputs, parts_of(inputs))
