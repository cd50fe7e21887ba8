"""Networks as `torch.export` gives them, which the compilers of PyTorch start from."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nasbench_compression.compilation.onnx_export import quiet
from nasbench_compression.compilation.signature import as_list
from nasbench_compression.copying import copy_network
from nasbench_compression.quantization.cast import DTYPES
from nasbench_compression.quantization.folding import find_pairs, fold
from nasbench_compression.quantization.modules import dequantize

_NOTES = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn")  # of a node, on its origin
_NO_WORK = {"_assert_tensor_metadata", "getitem"}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """No warnings, no log lines, no gradients."""
    with quiet(logging.ERROR), torch.no_grad():
        yield


def deployable(model: nn.Module, example_inputs: Tensor) -> nn.Module:
    """A copy on the CPU in evaluation mode, in float32, batch norm folded into the convolutions.

    Weights of a network from the step `quantize` lie on their grid.

    Args:
        model: Network; it is not changed.
        example_inputs: Images (n, c, h, w), float32.
    """
    copied = copy_network(dequantize(model)).cpu().eval().requires_grad_(False)
    return fold(copied, find_pairs(copied, example_inputs))


class Narrow(nn.Module):
    """A network that stores and computes in 16 bits, and takes and gives float32.

    Args:
        network: Plain network, or a `Deployed`; it is changed.
        precision: "fp16" or "bf16".
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.dtype = DTYPES[precision]
        self.network = network.to(self.dtype)
        self.train(network.training)

    def forward(self, inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs of the network, in float32 where they are floats."""
        narrow_inputs = inputs.to(self.dtype) if inputs.is_floating_point() else inputs
        outputs = as_list(self.network(narrow_inputs))
        wide = tuple(output.float() if output.is_floating_point() else output for output in outputs)
        return wide[0] if len(wide) == 1 else wide


def export(model: nn.Module, example_inputs: Tensor) -> Any:
    """The `ExportedProgram` for images of this shape, without notes on where in the source each node comes from.

    Args:
        model: Network in evaluation mode.
        example_inputs: Images (n, c, h, w), float32; n is fixed in the program.
    """
    with silence():
        program = torch.export.export(model, (example_inputs,))
    for node in program.graph.nodes:
        for note in _NOTES:
            node.meta.pop(note, None)
    return program


def operators(program: Any) -> dict[str, int]:
    """How many operators of each kind an `ExportedProgram` has, named as in torch.ops without namespace."""
    names = (node.target.__name__.partition(".")[0] for node in program.graph.nodes if node.op == "call_function")
    return counted(name for name in names if name not in _NO_WORK)


def counted(names: Iterable[str]) -> dict[str, int]:
    """How often each name occurs, sorted by name."""
    return dict(sorted(Counter(names).items()))
