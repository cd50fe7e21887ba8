"""Names of steps and backends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from nasbench_compression.compilation.availability import why_unavailable
from nasbench_registry import Entries, Registry, check_options

if TYPE_CHECKING:
    from nasbench_compression.compilation.backend import Backend
    from nasbench_compression.step import Step

T = TypeVar("T")

STEPS: Entries[type[Step]] = Entries(
    {
        "prune": "nasbench_compression.pruning.structured:Prune",
        "drop_layers": "nasbench_compression.pruning.layers:DropLayers",
        "sparsify": "nasbench_compression.sparsity.sparsify:Sparsify",
        "decompose": "nasbench_compression.decomposition.decompose:Decompose",
        "distill": "nasbench_compression.distillation.distill:Distill",
        "quantize": "nasbench_compression.quantization.quantize:Quantize",
        "compile": "nasbench_compression.compilation.compile:Compile",
    }
)

BACKENDS: Entries[type[Backend]] = Entries(
    {
        "eager": "nasbench_compression.compilation.eager:Eager",
        "torch_compile": "nasbench_compression.compilation.torch_compile:TorchCompile",
        "aot_inductor": "nasbench_compression.compilation.aot_inductor:AotInductor",
        "executorch": "nasbench_compression.compilation.executorch:ExecuTorch",
        "onnxruntime": "nasbench_compression.compilation.onnxruntime:OnnxRuntime",
        "openvino": "nasbench_compression.compilation.openvino:OpenVino",
        "tvm": "nasbench_compression.compilation.tvm_backend:Tvm",
        "litert": "nasbench_compression.compilation.litert:LiteRt",
        "tensorrt": "nasbench_compression.compilation.tensorrt:TensorRt",
    }
)

steps: Registry[Step] = Registry("step", "nasbench_compression.step:Step", STEPS, group="nasbench.steps")
backends: Registry[Backend] = Registry(
    "backend", "nasbench_compression.compilation.backend:Backend", BACKENDS, group="nasbench.backends"
)


def get_step(name: str, **options: Any) -> Step:
    """The step of this name with these options.

    Raises:
        UserError: Unknown name or option, a missing option, or a value out of range.
    """
    return _make(steps.find(name), options, f"step {name!r}")


def get_backend(name: str, **options: Any) -> Backend:
    """The backend of this name with these options; it need not be installed.

    Raises:
        UserError: Unknown name or option, or a value out of range.
    """
    return _make(backends.find(name), options, f"backend {name!r}")


def why_no_backend(name: str) -> str | None:
    """Why a backend cannot be used here, None if it can; one of ours is not imported to know it."""
    if name in BACKENDS:
        return why_unavailable(**BACKENDS.literals(name, ("name", "packages", "extra", "also_needs")))
    return backends.find(name).why_unavailable()


def _make(kind: type[T], options: Mapping[str, Any], what: str) -> T:
    check_options(kind, options, what=what)
    return kind(**options)
