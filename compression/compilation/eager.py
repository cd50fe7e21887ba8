"""PyTorch as it is: the reference that every other backend is compared with."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from compression.compilation.backend import (
    Backend,
    CompiledModel,
    Images,
    artefact_path,
    as_images,
    needs_calibration,
    torch_threads,
)
from compression.quantization.modules import dequantize, is_quantized
from compression.quantization.static_int8 import quantize_static
from nasbench_registry import UserError

_FILE = "model.safetensors"


class EagerModel(CompiledModel):
    """A network in evaluation mode on the CPU."""

    def __init__(self, model: nn.Module, precision: str, threads: int) -> None:
        self.model = model
        self.precision = precision
        self.threads = threads

    def __call__(self, images: Images) -> Images:
        """See `CompiledModel`."""
        with torch.inference_mode(), torch_threads(self.threads):
            logits: Images = self.model(torch.from_numpy(as_images(images))).numpy()
        return logits

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
            "operators": operators,
        }


@dataclass(frozen=True, kw_only=True)
class Eager(Backend):
    """PyTorch without compilation. Its int8 computes in float32 what integer kernels would: right, not fast.

    Attributes:
        threads: a call may use.
    """

    name: ClassVar[str] = "eager"
    summary: ClassVar[str] = "PyTorch without compilation; int8 is simulated"
    source: ClassVar[str] = "https://pytorch.org"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "int8")
    artefact: ClassVar[str] = _FILE

    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        compiled = copy.deepcopy(model).cpu()
        if precision == "int8" and not is_quantized(compiled):
            compiled, _ = quantize_static(dequantize(compiled), needs_calibration(self.name, calibration))
        elif precision == "fp32" and is_quantized(compiled):
            compiled = dequantize(compiled)
        return EagerModel(compiled.eval().requires_grad_(False), precision, self.threads)

    def _load(self, file: Path) -> CompiledModel:
        raise UserError(
            f"{file} of backend 'eager' holds weights only; build the network, load them into it and call `compile` "
            f"again."
        )
