"""PyTorch as it is: the reference that every other backend is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from nasbench_compression.compilation.backend import (
    Backend,
    CompiledModel,
    Images,
    artefact_path,
    needs_calibration,
    torch_threads,
)
from nasbench_compression.compilation.exported import Narrow, deployable
from nasbench_compression.compilation.signature import Array, arrays
from nasbench_compression.compilation.torch_profile import TorchProfiler
from nasbench_compression.copying import copy_network
from nasbench_compression.quantization.modules import dequantize, is_quantized
from nasbench_compression.quantization.static_int8 import quantize_static
from nasbench_registry import UserError, one_of

_FILE = "model.safetensors"
_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class EagerModel(CompiledModel):
    """A network in evaluation mode on the CPU."""

    def __init__(self, model: nn.Module, precision: str, threads: int, memory_format: str = "contiguous") -> None:
        self.model = model
        self.precision = precision
        self.threads = threads
        self.memory_format = memory_format

    def _run(self, images: Array) -> list[Array]:
        with torch.inference_mode(), torch_threads(self.threads):
            inputs = torch.from_numpy(images)
            if inputs.ndim == 4:
                inputs = inputs.contiguous(memory_format=_FORMATS[self.memory_format])
            return arrays(self.model(inputs))

    def profiler(self, images: Images) -> TorchProfiler:
        """See `CompiledModel`."""
        return TorchProfiler(lambda: self._run(images), self.model, self.precision)

    @cached_property
    def _artefact(self) -> bytes:
        # Two names may share one tensor; the file format wants each to be of its own.
        tensors = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        return to_safetensors({name: tensor.contiguous() for name, tensor in tensors.items()})

    def save(self, path: Path | str) -> Path:
        """See `CompiledModel`; writes the weights only."""
        file = artefact_path(path, _FILE)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self._artefact)
        return file

    @property
    def bytes(self) -> int:
        """See `CompiledModel`."""
        return len(self._artefact)

    def describe(self) -> dict[str, Any]:
        """See `CompiledModel`; operators are the modules without parts."""
        operators: dict[str, int] = {}
        for module in self.model.modules():
            if not list(module.children()):
                kind = type(module).__name__
                operators[kind] = operators.get(kind, 0) + 1
        return {
            "backend": "eager",
            "version": torch.__version__,
            "precision": self.precision,
            "threads": self.threads,
            "memory_format": self.memory_format,
            "operators": operators,
        }


@dataclass(frozen=True, kw_only=True)
class Eager(Backend):
    """PyTorch without compilation.

    "bf16" stores weights and computes in bfloat16, from and to float32 at both ends; batch norm is folded, as it is
    slow in 16 bits. There is no "fp16", for which PyTorch's kernels for the CPU are several times slower. "int8"
    computes in float32 what integer kernels would: right, not fast.

    Attributes:
        threads: Number of threads that a call may use.
        memory_format: Order of the values in memory: "contiguous" or "channels_last", in which the channels of a pixel
            lie side by side.
    """

    name: ClassVar[str] = "eager"
    summary: ClassVar[str] = "PyTorch without compilation; int8 is simulated"
    source: ClassVar[str] = "https://pytorch.org"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "int8")
    compile_s: ClassVar[float] = 0.1
    artefact: ClassVar[str] = _FILE

    memory_format: str = "contiguous"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("eager memory_format", self.memory_format, _FORMATS)

    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        compiled = copy_network(model).cpu()
        if precision == "int8" and not is_quantized(compiled):
            compiled, _ = quantize_static(dequantize(compiled), needs_calibration(self.name, calibration))
        elif precision == "fp32" and is_quantized(compiled):
            compiled = dequantize(compiled)
        elif precision == "bf16":
            compiled = Narrow(deployable(compiled, example_inputs), precision)
        compiled.eval().requires_grad_(False)
        compiled.to(memory_format=_FORMATS[self.memory_format])  # type: ignore[call-overload]  # it is documented
        return EagerModel(compiled, precision, self.threads, self.memory_format)

    def _load(self, file: Path) -> CompiledModel:
        raise UserError(
            f"{file} of backend 'eager' holds weights only; build the network, load them into it and call `compile` "
            f"again."
        )
