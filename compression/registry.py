"""Names of steps and backends."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from compression.compilation.aot_inductor import AotInductor
from compression.compilation.backend import Backend
from compression.compilation.compile import Compile
from compression.compilation.eager import Eager
from compression.compilation.executorch import ExecuTorch
from compression.compilation.litert import LiteRt
from compression.compilation.onnxruntime import OnnxRuntime
from compression.compilation.openvino import OpenVino
from compression.compilation.tensorrt import TensorRt
from compression.compilation.torch_compile import TorchCompile
from compression.compilation.tvm_backend import Tvm
from compression.decomposition.decompose import Decompose
from compression.distillation.distill import Distill
from compression.pruning.layers import DropLayers
from compression.pruning.structured import Prune
from compression.quantization.quantize import Quantize
from compression.sparsity.sparsify import Sparsify
from compression.step import Step
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
