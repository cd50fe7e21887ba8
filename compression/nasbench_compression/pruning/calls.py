"""One operation of a network as rules see it, and the rules for those that take channels one by one or all together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from nasbench_compression.pruning.labels import Array, Axes, Labels


@dataclass(frozen=True, kw_only=True)
class Call:
    """One operation that ran.

    Attributes:
        name: Name of the operation, such as "cat".
        arguments: Arguments by their names in the schema of the operation.
        results: Tensors that the operation returned.
        labels: Labels of the channels, which a rule joins and freezes.
        axes: Gives the labels of a tensor.
        put: Sets the labels of a result.
    """

    name: str
    arguments: dict[str, Any]
    results: list[Tensor]
    labels: Labels
    axes: Callable[[Tensor], Axes]
    put: Callable[[Tensor, Axes], None]

    @property
    def tensors(self) -> list[Tensor]:
        """All arguments that are tensors, also those in lists."""
        return [leaf for leaf in tree_leaves(self.arguments) if isinstance(leaf, Tensor)]

    def tensor(self, *names: str) -> Tensor | None:
        """The argument of the first of these names that there is."""
        value = next((self.arguments[name] for name in names if self.arguments.get(name) is not None), None)
        return value if isinstance(value, Tensor) else None

    def dims(self, tensor: Tensor, name: str = "dim") -> list[int]:
        """Dimensions that an argument names, counted from the front; all of them for None."""
        value = self.arguments.get(name)
        if value is None or value == []:
            return list(range(tensor.ndim))
        return [dim % max(tensor.ndim, 1) for dim in (value if isinstance(value, list | tuple) else [value])]

    def combine(self, parts: Sequence[Array | None]) -> Array | None:
        """The labels of a dimension that several tensors share; None if one of them does not follow the channels."""
        labelled = [part for part in parts if part is not None]
        if len(labelled) < len(parts):
            for part in labelled:
                self.labels.freeze(part, f"{self.phrase} combines them with values whose number does not follow theirs")
            return None
        for part in labelled[1:]:
            self.labels.join(labelled[0], part)
        return labelled[0] if labelled else None

    def freeze(self, tensors: Sequence[Tensor], reason: str, dims: Sequence[int] | None = None) -> None:
        """Let the labels of tensors stay, in these dimensions or in all."""
        for tensor in tensors:
            for dim, labels in self.axes(tensor).items():
                if dims is None or dim in dims:
                    self.labels.freeze(labels, reason)

    @property
    def phrase(self) -> str:
        """The operation with its article, as the subject of a reason."""
        return f"the operation {self.name.strip('_')}"


def elementwise(call: Call) -> None:
    """Each position by itself; smaller tensors are spread out over the missing and the single positions."""
    tensors = call.tensors if call.results else []
    for result in call.results:
        fitting = [tensor for tensor in tensors if tensor.ndim <= result.ndim]
        axes: Axes = {}
        for dim, size in enumerate(result.shape):
            parts = [
                call.axes(tensor).get(own_dim)
                for tensor in fitting
                if (own_dim := dim - result.ndim + tensor.ndim) >= 0 and size > 1 and tensor.shape[own_dim] == size
            ]
            labels = call.combine(parts) if any(part is not None for part in parts) else None
            if labels is not None:
                axes[dim] = labels
        call.put(result, axes)
    for tensor in tensors:
        for dim, labels in call.axes(tensor).items():
            if not any(
                result.ndim >= tensor.ndim and result.shape[dim - tensor.ndim] == len(labels) for result in call.results
            ):
                call.labels.freeze(labels, f"{call.phrase} gives another number of values for them")


def opaque(call: Call) -> None:
    """Something through which channels cannot be followed."""
    call.freeze(call.tensors, f"they pass {call.phrase}, through which channels cannot be followed")
    for result in call.results:
        call.put(result, {})


def mixing(call: Call) -> None:
    """Along its dimension, each value depends on those of all positions, or of those before."""
    (tensor, *_), name = call.tensors, "dims" if "dims" in call.arguments else "dim"
    call.freeze([tensor], f"{call.phrase} mixes them", call.dims(tensor, name))
    elementwise(call)


def join_rows(call: Call, rows: Any) -> Array:
    """The first of several rows of labels, all of which are joined with it."""
    for row in rows[1:]:
        call.labels.join(rows[0], row)
    first: Array = rows[0]
    return first


def share(call: Call, first: Tensor, dim: int, second: Tensor, second_dim: int) -> None:
    """Let a dimension of one tensor and one of another tensor go together."""
    parts = [call.axes(first).get(dim), call.axes(second).get(second_dim)]
    if any(part is not None for part in parts):
        call.combine(parts)
