"""RAM and flash of an int8 network in TensorFlow Lite Micro (David et al. 2021, arXiv:2010.08678), before training.

The operators that PyTorch runs are put together as the converter does: batch norm is folded, an activation is part of
the layer before it, images lie with their channels last. Activations are one byte a value, and are laid out as that
runtime's planner does it: the largest first, each in the first gap that none of its time overlaps. Beside them the
arena holds what lasts: a few bytes for each tensor and operator, and a multiplier and a shift for each output channel
of a layer. Flash is the file: weights in int8, biases in int32, scales, and a description of each tensor and operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nasbench.costs.memory import in_words
from nasbench_compression.compilation.exported import deployable
from nasbench_compression.surgery import inference
from search_spaces import Task

ALIGNMENT = 16  # bytes, of a tensor in the arena

# What lasts in the arena of the 64-bit runtime, in bytes: read from its own record of allocations.
ARENA = 720  # whatever the network
TENSOR, OPERATOR, END = 24, 64, 96  # each tensor, each operator, each input or output
LAYER, OTHER = 96, 32  # data of a convolution or a linear layer, of another operator
CHANNEL = 8  # of an output channel of a layer: a multiplier and a shift

# What the file holds besides values, in bytes, fitted to ten files: names, shapes and scales.
FILE_LEAST, FILE, FILE_TENSOR, FILE_CHANNEL = 2000, -1860, 344, 21

_LAYERS = ("convolution", "addmm", "mm", "bmm", "linear", "mkldnn_rnn_layer")
_FUSED = ("relu", "relu_", "hardtanh", "hardtanh_", "clamp_min", "clamp")  # into the layer or sum before
_SUMS = ("add", "add_", "sub", "mul")
_NOTHING = ("detach", "clone", "contiguous", "_to_copy", "t", "alias", "lift_fresh", "dropout", "empty", "expand")
_SHAPES = ("view", "_unsafe_view", "reshape", "flatten", "unsqueeze", "squeeze", "permute", "transpose")


@dataclass
class Buffer:
    """A tensor in the arena.

    Attributes:
        bytes: Size of the tensor in bytes.
        first: Number of the operator that makes it.
        last: Number of the last operator that reads it.
    """

    bytes: int
    first: int
    last: int


def greedy_by_size(buffers: Sequence[Buffer]) -> int:
    """Bytes of the arena as TensorFlow Lite Micro's `GreedyMemoryPlanner` lays out buffers.

    Pisarchyk & Lee 2020, Efficient Memory Management for Deep Neural Net Inference, arXiv:2001.03288.
    """
    placed: list[tuple[int, int, Buffer]] = []
    for buffer in sorted(reversed(buffers), key=lambda buffer: -_aligned(buffer.bytes)):  # of equal ones the last first
        size, offset = _aligned(buffer.bytes), 0
        for start, end, placed_buffer in sorted(placed, key=lambda placement: placement[0]):
            if placed_buffer.last < buffer.first or placed_buffer.first > buffer.last:
                continue
            if start - offset >= size:
                break
            offset = max(offset, end)
        placed.append((offset, offset + size, buffer))
    return max((end for _, end, _ in placed), default=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Footprint:
    """The memory of an int8 network on a microcontroller.

    Attributes:
        ram_bytes: Bytes of the arena.
        flash_bytes: Bytes of the file.
        activation_bytes: Bytes of the arena that the planner lays out.
    """

    ram_bytes: int
    flash_bytes: int
    activation_bytes: int

    def to_json(self) -> dict[str, int]:
        """The fields by name."""
        return asdict(self)


def footprint(model: nn.Module, task: Task) -> Footprint:
    """RAM and flash of a network for one image; the network is left as it was.

    Args:
        model: Any network.
        task: Task whose input it takes.

    Raises:
        UserError: It does not run on one image.
    """
    inputs = task.one_input(1)
    with in_words(model, inputs):
        network = deployable(model, inputs)
        watch = _Graph([*network.parameters(), *network.buffers()])
        with inference(network), watch:
            watch.begin(inputs, channels_last=inputs.ndim == 4)
            outputs = network(inputs)
            watch.end([tensor for tensor in tree_leaves(outputs) if isinstance(tensor, torch.Tensor)])
    return watch.footprint()


class _Graph(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not annotate it
    """The operators of a TFLite file, from those that PyTorch runs.

    Args:
        weights: Tensors that are there anyway.
    """

    def __init__(self, weights: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.buffers: list[Buffer] = []
        self._stored = {weight.untyped_storage().data_ptr(): weight for weight in weights}
        self._used: dict[int, torch.Tensor] = {}
        self._buffer_of: dict[int, Buffer] = {}  # by the memory of a tensor
        self._references: list[torch.Tensor] = []  # so that no memory is given out twice
        self._kind: dict[int, str] = {}
        self._operators, self._layers, self._channels, self._constants = 0, 0, 0, 0

    def begin(self, inputs: torch.Tensor, *, channels_last: bool) -> None:
        """The input; what first reads an image brings it into the order of its channels, unless it flattens it."""
        self._new(inputs, inputs.numel(), "image" if channels_last else "input")

    def end(self, outputs: Sequence[torch.Tensor]) -> None:
        """Outputs stay to the end."""
        for output in outputs:
            buffer = self._buffer_of.get(_memory(output))
            if buffer is not None:
                buffer.last = self._operators

    def footprint(self) -> Footprint:
        """RAM and flash of the network that ran."""
        activations = greedy_by_size(self.buffers)
        weights = list(self._used.values())
        tensors = len(self.buffers) + len(weights) + self._constants
        other_operators = self._operators - self._layers
        lasting = ARENA + TENSOR * tensors + OPERATOR * self._operators + 2 * END + LAYER * self._layers
        lasting += OTHER * other_operators + CHANNEL * self._channels
        values = sum(weight.numel() * (1 if weight.ndim > 1 else 4) for weight in weights)
        file = max(FILE_LEAST, FILE + FILE_TENSOR * tensors + FILE_CHANNEL * self._channels)
        return Footprint(activations + lasting, values + file, activations)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and note it."""
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple | list) and result else result
        if isinstance(first, torch.Tensor):
            inputs = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)]
            self._note(func.overloadpacket.__name__, inputs, first, args)
        return result

    def _note(self, name: str, inputs: list[torch.Tensor], output: torch.Tensor, args: Any) -> None:
        sources = [tensor for tensor in inputs if _memory(tensor) in self._buffer_of]
        if not sources or name in _NOTHING:
            if sources and _memory(output) not in self._buffer_of:
                self._alias(sources[0], output)
            return
        source = sources[0]
        if name in _SHAPES:
            if _memory(output) not in self._buffer_of:
                self._alias(source, output)
            moves = source.ndim == 4 and output.ndim == 2 and source.shape[2] * source.shape[3] > 1
            times = 2 if self._kind[_memory(source)] != "image" else 1  # back to the order of PyTorch, and then flat
            for _ in range(times if moves else 0):
                self._operator([source], output, output.numel(), "reshape", constants=1)
            return
        if self._kind[_memory(source)] == "image":
            self._operator([source], source, source.numel(), "reshape", constants=1)
        if name in _FUSED and self._kind.get(_memory(source)) in ("layer", "sum"):
            self._alias(source, output)
            return
        layer = name in _LAYERS
        if name == "convolution" and self._pads(args):
            padded = output.new_empty(0)
            self._references.append(padded)
            height, width = (size + 2 * pad for size, pad in zip(source.shape[2:], args[4], strict=True))
            self._operator(sources, padded, source.shape[0] * source.shape[1] * height * width, "pad", constants=1)
            sources = [padded]
        for tensor in inputs:
            if _memory(tensor) in self._stored:
                self._used[_memory(tensor)] = self._stored[_memory(tensor)]
        if layer:
            self._layers += 1
            self._channels += int(output.shape[1 if name == "convolution" else -1])
        kind = "layer" if layer else "sum" if name in _SUMS else "other"
        self._operator(sources, output, output.numel(), kind, constants=int(name in ("mean", "_adaptive_avg_pool2d")))

    @staticmethod
    def _pads(args: Any) -> bool:
        """Whether a convolution needs an operator that pads: where its padding is not SAME, which a file can name."""
        image, weight, stride, padding, dilation = args[0], args[1], args[3], args[4], args[5]
        axes = zip(image.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
        for size, kernel, step, pad, apart in axes:
            reach = apart * (kernel - 1) + 1
            same = max(0, (-(-size // step) - 1) * step + reach - size)
            output_size = (size + 2 * pad - reach) // step + 1
            if pad and (output_size != -(-size // step) or 2 * pad != same):
                return True
        return False

    def _operator(
        self, inputs: Sequence[torch.Tensor], output: torch.Tensor, size: int, kind: str, constants: int = 0
    ) -> None:
        for tensor in inputs:
            self._buffer_of[_memory(tensor)].last = self._operators
        self._new(output, size, kind)
        self._operators += 1
        self._constants += constants

    def _new(self, tensor: torch.Tensor, size: int, kind: str) -> None:
        buffer = Buffer(size, self._operators, self._operators)
        self.buffers.append(buffer)
        self._buffer_of[_memory(tensor)], self._kind[_memory(tensor)] = buffer, kind
        self._references.append(tensor)

    def _alias(self, source: torch.Tensor, output: torch.Tensor) -> None:
        self._buffer_of[_memory(output)], self._kind[_memory(output)] = (
            self._buffer_of[_memory(source)],
            self._kind[_memory(source)],
        )
        self._references.append(output)


def _memory(tensor: torch.Tensor) -> int:
    pointer = tensor.untyped_storage().data_ptr()
    return pointer if pointer else -id(tensor)
