"""What `torch_compile` and `aot_inductor` share: Inductor, the compiler of PyTorch."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nasbench_compression.compilation.backend import needs_calibration, torch_threads
from nasbench_compression.compilation.exported import Narrow, counted, deployable, export, silence
from nasbench_compression.compilation.pt2e import exact_weights, float_layers, quantize_exported

# A call of the generated code, in Python or in C++: one of Inductor's own kernels, or one of a library.
_CALL = re.compile(
    r"^\s*(?:[\w.]+ = )?(?:AOTI_TORCH_ERROR_CODE_CHECK\()?"
    r"(?:(cpp_\w+?)_\d+|extern_kernels\.(\w+)|torch\.ops\.\w+\.(\w+)\.\w+|aoti_torch_cpu_(\w+))\(",
    re.MULTILINE,
)
_NO_KERNELS = {"set_", "_reinterpret_tensor", "view_dtype"}


def exported(backend: str, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None) -> Any:
    """The `ExportedProgram` that Inductor compiles to this precision: "fp32", "bf16" or "int8"."""
    network = deployable(model, example_inputs)
    if precision == "bf16":
        network = Narrow(network, precision)
    elif precision == "int8":
        images = needs_calibration(backend, calibration)
        network = quantize_exported(network, example_inputs, images, lambda: _quantizer(model))
    return export(network, example_inputs)


def _quantizer(model: nn.Module) -> Any:
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(exact_weights(x86.get_default_x86_inductor_quantization_config()))
    for name in float_layers(model):
        quantizer.set_module_name_qconfig(name, None)
    return quantizer


def torch_compiled(network: nn.Module) -> Any:
    """`torch.compile` of a network, with a cache that `cache_by_vector_unit` makes safe."""
    cache_by_vector_unit()
    return torch.compile(network)


def cache_by_vector_unit() -> None:
    """Let Inductor's cache tell apart code that was generated for vector units of different widths.

    Its key is the graph alone. Code that was generated for 8 numbers at a time, and is compiled by a process that takes
    16, writes beyond the end of arrays (torch 2.13). Two such processes meet where `ATEN_CPU_CAPABILITY` changes, or
    where machines share a cache folder. A tag that the user has set (`TORCH_COMPILE_CACHE_KEY_TAG`) stays.
    """
    from torch.compiler import config

    config.cache_key_tag = config.cache_key_tag or torch.backends.cpu.get_cpu_capability()


@contextlib.contextmanager
def compiling(threads: int, **settings: Any) -> Iterator[None]:
    """Inside the block, Inductor compiles for so many threads, with the weights as constants, and says nothing.

    Only constant weights are packed once, when it compiles; and only then are activations fused into the convolutions.
    """
    from torch._inductor import config

    cache_by_vector_unit()
    with silence(), torch_threads(threads), config.patch({"freezing": True, **settings}):
        yield


@contextlib.contextmanager
def generated() -> Iterator[list[str]]:
    """A list to which the Python code is added that Inductor generates inside the block."""
    from torch._inductor.graph import GraphLowering

    sources: list[str] = []
    before = GraphLowering.save_output_code
    GraphLowering.save_output_code = sources.append
    try:
        yield sources
    finally:
        GraphLowering.save_output_code = before


def kernels(code: str) -> dict[str, int]:
    """How often generated code calls kernels of each kind.

    Those that Inductor wrote are called `cpp_fused_` and what they fuse; the others are of libraries, such as
    `_convolution_pointwise` of oneDNN, which has its activation fused in.

    Args:
        code: Code that runs in one call of the network, in Python or C++.
    """
    names = (next(name for name in match.groups() if name) for match in _CALL.finditer(code))
    return counted(name.removeprefix("mkldnn_") for name in names if name not in _NO_KERNELS)
