"""Inputs and outputs of a network, beyond the images and logits of most networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasbench_compression.copying import copy_network
from nasbench_compression.outputs import logits_of, tensors_of
from nasbench_compression.quantization.modules import is_reduced
from nasbench_registry import UserError

Array = NDArray[Any]

_NATIVE = {torch.float64, torch.bfloat16, torch.float16, torch.float32}


class OutputTuple(tuple[Array, ...]):
    """The outputs of a network that gives a tuple or a list; the logits among them where NumPy asks for an array."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return _logits({str(number): output for number, output in enumerate(self)}, dtype)


class OutputDict(dict[str, Array]):
    """The outputs of any other network that gives several, by name; the logits among them for NumPy."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return _logits(self, dtype)


def _logits(outputs: Mapping[str, Array], dtype: Any) -> Array:
    chosen = logits_of({name: torch.from_numpy(output) for name, output in outputs.items()})
    return np.array(chosen.numpy(), dtype=dtype)


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of an artefact. The default is that of a classifier: images in float32, and their logits.

    Attributes:
        dimensions: Number of dimensions of the input, that of the batch included.
        dtype: Type of the input, as NumPy names it.
        names: Names of the outputs, in the order in which the artefact gives them, as `tensors_of` names those of the
            network: "" is the one output of a network that gives a tensor.
        axes: Axis of each output along which the images of a batch lie; None where it does not grow with the batch.
        whole: Whether an image must stay with the others of its batch, for what the network gives for one depends on
            the others, or it takes no other number of images.
        fixed: Number of images, if the network takes no other; None if it takes any.
    """

    dimensions: int = 4
    dtype: str = "float32"
    names: tuple[str, ...] = ("",)
    axes: tuple[int | None, ...] = (0,)
    whole: bool = False
    fixed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The signature as JSON, which `from_json` reads."""
        return dataclasses.asdict(self) | {"names": list(self.names), "axes": list(self.axes)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Signature:
        """The signature that `to_json` wrote; the default for an artefact without one."""
        if data is None:
            return cls()
        return cls(**{**data, "names": tuple(data["names"]), "axes": tuple(data["axes"])})

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs in a file: "logits" where there is one, else "aux", "features.0" or "output1"."""
        if self.names == ("",):
            return ("logits",)
        return tuple(f"output{name}" if name.isdecimal() else name for name in self.names)

    def checked(self, inputs: Any) -> Array:
        """The inputs of a call as a contiguous array of the right type.

        Raises:
            UserError: The inputs have another number of dimensions, or are empty.
        """
        inputs = np.asarray(inputs)
        if inputs.ndim != self.dimensions or inputs.size == 0:
            expected_form = "(n, c, h, w)" if self.dimensions == 4 else f"{self.dimensions} dimensions, (n, ...),"
            raise UserError(f"images have shape {inputs.shape}; give {expected_form} with n of at least 1.")
        return np.ascontiguousarray(inputs, dtype=self.dtype)

    def formed(self, outputs: Sequence[Array]) -> Any:
        """The outputs in the form in which the network gives them.

        Returns:
            An array for a tensor, a tuple for a tuple or a list, and a dict by name for everything else. To NumPy, the
            last two are the logits, see `logits_of`: ``np.asarray(outputs)``.
        """
        if self.names == ("",):
            return outputs[0]
        if all(name.isdecimal() for name in self.names):
            return OutputTuple(outputs)
        return OutputDict(zip(self.names, outputs, strict=True))

    def in_batches(self, run: Callable[[Array], Sequence[Array]], inputs: Array, batch: int | None) -> list[Array]:
        """Any number of inputs through a runtime that takes `batch` at a time; the last ones are filled with zeros.

        Args:
            run: Function that computes the outputs of `batch` inputs; its next call may overwrite them.
            inputs: Inputs (n, ...), contiguous.
            batch: Number of inputs that the artefact takes at a time; None is any number.

        Raises:
            UserError: The batch must stay whole, and there are more or fewer inputs.
        """
        if batch is None or len(inputs) == batch:
            return list(run(inputs))
        if self.whole:
            raise UserError(
                f"the artefact was compiled for batches of {batch}, and {len(inputs)} image(s) are no such batch: "
                + (
                    "the network takes no other number; "
                    if self.fixed
                    else "what the network gives for one depends on the others of its batch; "
                )
                + f"give {batch} at a time, or compile it for {len(inputs)}."
            )
        pieces: list[list[Array]] = []
        for start in range(0, len(inputs), batch):
            piece = inputs[start : start + batch]
            count = len(piece)
            if count < batch:
                piece = np.concatenate([piece, np.zeros((batch - count, *piece.shape[1:]), piece.dtype)])
            pieces.append(
                [
                    np.array(output)
                    if axis is None
                    else output.take(range(count * output.shape[axis] // batch), axis)  # an image may have several rows
                    for output, axis in zip(run(piece), self.axes, strict=True)
                ]
            )
        return [
            parts[0] if axis is None else np.concatenate(parts, axis)
            for parts, axis in zip(zip(*pieces, strict=True), self.axes, strict=True)
        ]


class Deployed(nn.Module):
    """A network as compilers like it: it gives a tensor or a flat tuple of them, and leaves its input alone.

    Args:
        network: Network that it calls.
        signature: Signature of the network.
        writes: Whether the network writes into its input.
    """

    def __init__(self, network: nn.Module, signature: Signature, *, writes: bool) -> None:
        super().__init__()
        self.network = network
        self.signature = signature
        self.writes = writes
        self.train(network.training)

    def forward(self, inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """All outputs, in the order of the signature; one of them alone is no tuple."""
        network_input = inputs.clone() if self.writes else inputs
        tensors: list[Tensor] = []
        for tensor in tensors_of(self.network(network_input)).values():
            # Exporters and runtimes take two outputs that are one tensor, or an output that is the input, for one.
            is_repeated = tensor is inputs or any(tensor is earlier for earlier in tensors)
            tensors.append(tensor.clone() if is_repeated else tensor)
        return tensors[0] if len(tensors) == 1 else tuple(tensors)


def native_type(network: nn.Module) -> torch.dtype:
    """What a network computes in: float64, bfloat16 or float16 if all its weights are, and float32 else."""
    if is_reduced(network):
        return torch.float32
    tensors = (*network.parameters(), *network.buffers())
    types = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return types.pop() if len(types) == 1 and types <= _NATIVE else torch.float32


def deployed(network: nn.Module, signature: Signature, *, writes: bool) -> nn.Module:
    """The network as a backend is given it: in float32, in a `Deployed` where it is not the usual classifier.

    Args:
        network: Network; it is not changed, and returned itself, not a copy, if it is as backends expect it.
        signature: Signature of the network.
        writes: Whether the network writes into its input.
    """
    if native_type(network) is not torch.float32:
        network = copy_network(network).float()
    if signature == Signature() and not writes:
        return network
    return Deployed(network, signature, writes=writes)


def as_written(network: nn.Module) -> nn.Module:
    """The user's own network in what `deployed` gives."""
    return network.network if isinstance(network, Deployed) else network


def signature_of(model: nn.Module) -> Signature:
    """The signature of what a backend is given to compile."""
    return model.signature if isinstance(model, Deployed) else Signature()


def as_list(outputs: Any) -> list[Tensor]:
    """Outputs of a `Deployed` or of a plain network, as a list."""
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def arrays(outputs: Any) -> list[Array]:
    """Outputs of a `Deployed` or of a plain network, as NumPy arrays; bfloat16, which NumPy lacks, as float32."""
    tensors = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor for tensor in as_list(outputs))
    return [tensor.detach().cpu().numpy() for tensor in tensors]
