"""The inputs and outputs of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nasbench_registry import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TensorSpec:
    """One input or output tensor of a network.

    Attributes:
        shape: Shape of one example, without the batch.
        dtype: Name of the type in torch, such as float32, or int64 for tokens and categories.
        values: Number of different whole numbers: they go from 0 to `values` - 1.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    values: int | None = None

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.shape)
        if min(shape, default=1) < 1:
            raise UserError(f"the shape {self.shape!r} of a tensor has sizes below 1; give those of one example.")
        if self.values is not None and self.values < 1:
            raise UserError(f"values={self.values} of a tensor must be 1 or more: whole numbers go from 0 to values-1.")
        object.__setattr__(self, "shape", shape)

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {"shape": list(self.shape), "dtype": self.dtype, "values": self.values}


@dataclass(frozen=True, init=False, repr=False)
class Task:
    """The inputs and outputs of a network.

    The simple case is ``Task((channels, height, width), classes)``: one image, and a number for each class. The general
    one is ``Task(inputs=(TensorSpec(...), ...), outputs=TensorSpec(...))``: tables, tokens, several tensors; maps,
    vectors, several of them.

    Attributes:
        inputs: Inputs of the network, in order.
        outputs: Outputs of the network, in order.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __init__(
        self,
        input_shape: Sequence[int] | None = None,
        classes: int | None = None,
        *,
        inputs: TensorSpec | Sequence[TensorSpec] | None = None,
        outputs: TensorSpec | Sequence[TensorSpec] | None = None,
    ) -> None:
        if inputs is not None or outputs is not None:
            if inputs is None or outputs is None or input_shape is not None or classes is not None:
                raise UserError(
                    "a task is given by input_shape and classes, or by inputs and outputs; give two of them."
                )
            input_specs, output_specs = _listed(inputs), _listed(outputs)
            if not input_specs or not output_specs:
                raise UserError("a task has one input and one output at least; name their shapes.")
        else:
            input_specs, output_specs = _image(input_shape), (TensorSpec((_classes(classes),)),)
        object.__setattr__(self, "inputs", input_specs)
        object.__setattr__(self, "outputs", output_specs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the first input, without the batch: (channels, height, width) of an image."""
        return self.inputs[0].shape

    @property
    def classes(self) -> int:
        """The size of the first axis of the first output: the number of classes, or of predicted values."""
        return self.outputs[0].shape[0]

    @property
    def is_image_to_vector(self) -> bool:
        """Whether it takes one image and gives one vector, as classification and regression of images do."""
        return (
            len(self.inputs) == len(self.outputs) == 1
            and len(self.input_shape) == 3
            and self.inputs[0].values is None
            and len(self.outputs[0].shape) == 1
        )

    def __repr__(self) -> str:
        if self.is_image_to_vector:
            return f"Task(input_shape={self.input_shape}, classes={self.classes})"
        return f"Task(inputs={self.inputs}, outputs={self.outputs})"

    def example(self, count: int = 1, seed: int | None = None) -> tuple[Tensor, ...]:
        """Inputs for so many examples, a tensor for each input of the network.

        Args:
            count: Number of examples in the batch.
            seed: Random seed of normal numbers, or whole ones below their limit; None gives zeros.
        """
        import torch

        generator = None if seed is None else torch.Generator().manual_seed(seed)
        tensors: list[Tensor] = []
        for spec in self.inputs:
            shape, dtype = (count, *spec.shape), getattr(torch, spec.dtype)
            if generator is None:
                tensors.append(torch.zeros(shape, dtype=dtype))
            elif dtype.is_floating_point:
                tensors.append(torch.randn(shape, generator=generator).to(dtype))
            else:
                tensors.append(torch.randint(spec.values or 2, shape, generator=generator).to(dtype))
        return tuple(tensors)

    def one_input(self, count: int = 1, seed: int | None = None) -> Tensor:
        """As `example`, for what serves networks of one input only.

        Raises:
            UserError: The network takes several.
        """
        if len(self.inputs) != 1:
            raise UserError(
                f"the network takes {len(self.inputs)} inputs, and runtimes are given one tensor here; put them into "
                f"one, and take them apart in the network."
            )
        return self.example(count, seed)[0]

    def packed(self) -> Task:
        """The same with one input, in which several lie side by side, flat.

        Raises:
            UserError: Some are whole numbers, and others are not.
        """
        if len(self.inputs) == 1:
            return self
        whole = {spec.dtype.startswith(("int", "uint", "bool")) for spec in self.inputs}
        if len(whole) > 1:
            raise UserError(
                f"the network takes {', '.join(spec.dtype for spec in self.inputs)}, and inputs of whole numbers and "
                f"of others cannot be packed into one tensor; let it take numbers of one kind."
            )
        limits = [spec.values for spec in self.inputs if spec.values is not None]
        size = sum(math.prod(spec.shape) for spec in self.inputs)
        kind = "int64" if whole == {True} else "float32"
        return Task(inputs=TensorSpec((size,), kind, min(limits, default=None)), outputs=self.outputs)

    def to_json(self) -> dict[str, Any]:
        """`input_shape` and `classes` of one image and a vector, `inputs` and `outputs` of everything else."""
        if self.is_image_to_vector and self.classes > 1:
            return {"input_shape": list(self.input_shape), "classes": self.classes}
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
        }

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> Task:
        """The task that `to_json` gave."""
        if "input_shape" in about:
            return cls(about["input_shape"], about["classes"])
        read = (
            [TensorSpec(tuple(fields["shape"]), fields["dtype"], fields["values"]) for fields in about[key]]
            for key in KEYS
        )
        inputs, outputs = read
        return cls(inputs=inputs, outputs=outputs)


KEYS = ("inputs", "outputs")


def _listed(specs: TensorSpec | Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    return (specs,) if isinstance(specs, TensorSpec) else tuple(specs)


def _image(shape: Sequence[int] | None) -> tuple[TensorSpec]:
    sizes = tuple(int(size) for size in shape or ())
    if len(sizes) != 3 or min(sizes) < 1:
        raise UserError(f"input_shape {shape!r} is not (channels, height, width) with sizes above 0.")
    return (TensorSpec(sizes),)


def _classes(classes: int | None) -> int:
    if classes is None or classes < 2:
        raise UserError(f"classes is {classes}; a classification task has at least 2.")
    return int(classes)
