"""Names of steps and backends."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from nasbench_compression.compilation.aot_inductor import AotInductor
from nasbench_compression.compilation.backend import Backend
from nasbench_compression.compilation.compile import Compile
from nasbench_compression.compilation.eager import Eager
from nasbench_compression.compilation.executorch import ExecuTorch
from nasbench_compression.compilation.litert import LiteRt
from nasbench_compression.compilation.onnxruntime import OnnxRuntime
from nasbench_compression.compilation.openvino import OpenVino
from nasbench_compression.compilation.tensorrt import TensorRt
from nasbench_compression.compilation.torch_compile import TorchCompile
from nasbench_compression.compilation.tvm_backend import Tvm
from nasbench_compression.decomposition.decompose import Decompose
from nasbench_compression.distillation.distill import Distill
from nasbench_compression.pruning.layers import DropLayers
from nasbench_compression.pruning.structured import Prune
from nasbench_compression.quantization.quantize import Quantize
from nasbench_compression.sparsity.sparsify import Sparsify
from nasbench_compression.step import Step
from nasbench_registry import Registry, UserError, check_options

T = TypeVar("T")

STEPS: dict[str, type[Step]] = {
    "prune": Prune,
    "drop_layers": DropLayers,
    "sparsify": Sparsify,
    "decompose": Decompose,
    "distill": Distill,
    "quantize": Quantize,
    "compile": Compile,
}

BACKENDS: dict[str, type[Backend]] = {
    "eager": Eager,
    "torch_compile": TorchCompile,
    "aot_inductor": AotInductor,
    "executorch": ExecuTorch,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "tvm": Tvm,
    "litert": LiteRt,
    "tensorrt": TensorRt,
}

steps: Registry[Step] = Registry("step", Step, STEPS, group="nasbench.steps")  # type: ignore[type-abstract]  # only compared with
backends: Registry[Backend] = Registry("backend", Backend, BACKENDS, group="nasbench.backends")  # type: ignore[type-abstract]  # only compared with


def get_step(name: str, **options: Any) -> Step:
    """The step of this name with these options.

    Raises:
        UserError: unknown name or option, a missing option, or a value out of range.
    """
    return _make(steps.find(name), options, f"step {name!r}")


def get_backend(name: str, **options: Any) -> Backend:
    """The backend of this name with these options; it need not be installed.

    Raises:
        UserError: unknown name or option, or a value out of range.
    """
    return _make(backends.find(name), options, f"backend {name!r}")


def _make(found: type[T], options: Mapping[str, Any], what: str) -> T:
    check_options(found, options, what=what)
    if dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required and field.init and field.name not in options:
                raise UserError(f"{what} needs the option {field.name!r}; write {field.name}: followed by its value.")
    return found(**options)
