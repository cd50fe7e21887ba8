"""ExecuTorch with XNNPACK: PyTorch's runtime for phones and boards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench_compression.compilation.backend import (
    Backend,
    CompiledModel,
    SingleFile,
    needs_calibration,
)
from nasbench_compression.compilation.descriptors import descriptors_closed
from nasbench_compression.compilation.executorch_pool import Pool
from nasbench_compression.compilation.executorch_program import executed
from nasbench_compression.compilation.exported import counted, deployable, export, operators, silence
from nasbench_compression.compilation.pt2e import exact_weights, float_layers, quantize_exported
from nasbench_compression.compilation.signature import Array, Signature, arrays, signature_of

_FILE = "model.pte"
_FACTS = "nasbench"  # a method of the program that returns the facts of `describe`


class ExecuTorchModel(SingleFile):
    """A program of ExecuTorch, loaded."""

    filename: ClassVar[str] = _FILE
    why_not_profiled: ClassVar[str] = "ExecuTorch writes its times as ETDump, which is not read here"

    def __init__(self, artefact: bytes, threads: int) -> None:
        self.artefact = artefact
        self.threads = threads
        with silence(), descriptors_closed():
            program = Pool.program(self, artefact, threads)
            program.load_method("forward")
        self._facts = json.loads(program.load_method(_FACTS).execute([])[0])
        self.precision: str = self._facts["precision"]
        self.signature = Signature.from_json(self._facts.get("signature"))
        self._batch = int(program.metadata("forward").input_tensor_meta(0).sizes()[0])

    @property
    def batch(self) -> int:
        """See `CompiledModel`."""
        return self._batch

    def _outputs(self, images: Array) -> list[Array]:
        method = Pool.program(self, self.artefact, self.threads).load_method("forward")

        def run(piece: Array) -> list[Array]:
            outputs = method.execute([torch.from_numpy(piece)])
            return [output.copy() for output in arrays(outputs)]  # they are overwritten

        return self.signature.in_batches(run, images, self._batch)

    @cached_property
    def _executed(self) -> tuple[list[str], dict[str, int]]:
        return executed(self.artefact)

    def describe(self) -> dict[str, Any]:
        """See `CompiledModel`.

        In `operators_optimized`, names of what XNNPACK runs begin with XNN. The others are `left` to ExecuTorch's
        own kernels, which are slow, and the network falls into more parts by them.
        """
        left, delegated = self._executed
        return {
            "backend": "executorch",
            "version": version("executorch"),
            "precision": self.precision,
            "threads": self.threads,
            "batch": self._batch,
            "operators": self._facts["operators"],
            "operators_optimized": counted([*left, *(kind for kind, n in delegated.items() for _ in range(n))]),
            "left": counted(left),
        }


@dataclass(frozen=True, kw_only=True)
class ExecuTorch(Backend):
    """ExecuTorch on the CPU, with XNNPACK for all operators that it has.

    The network is exported, batch norm folded, for the batch of the example.

    "int8" is torchao's static quantization for XNNPACK: signed weights with a scale for each output channel, signed
    inputs, ranges from the histograms over the calibration images. A network from the step `quantize` keeps its
    weights, and its layers in float stay so; ranges are read from the images. There is no "fp16": on x86 it is slower
    than float32, and the file is hardly smaller.

    Attributes:
        threads: Number of threads that a call may use. All programs of a process share them: models with different
            numbers that take turns are loaded again at each turn.
    """

    name: ClassVar[str] = "executorch"
    summary: ClassVar[str] = "ExecuTorch with XNNPACK, PyTorch's runtime for phones"
    source: ClassVar[str] = "https://docs.pytorch.org/executorch/stable/"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "int8")
    compile_s: ClassVar[float] = 15.0
    artefact: ClassVar[str] = _FILE
    packages: ClassVar[tuple[str, ...]] = ("executorch", "torchao")
    extra: ClassVar[str] = "executorch"
    usage: ClassVar[str] = """
        import torch
        from executorch.runtime import Runtime

        program = Runtime.get().load_program("{file}")
        method = program.load_method("forward")
        parts = torch.from_numpy(images).split({batch})  # it takes as many images at a time
        logits = torch.cat([method.execute([part])[0].clone() for part in parts]).numpy()
    """

    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        network = deployable(model, example_inputs)
        if precision == "int8":
            network = quantize_exported(
                network, example_inputs, needs_calibration(self.name, calibration), lambda: _quantizer(model)
            )
        program = export(network, example_inputs)
        facts = {
            "precision": precision,
            "operators": operators(program),
            "signature": signature_of(model).to_json(),
        }
        return ExecuTorchModel(_lowered(program, facts), self.threads)

    def _load(self, file: Path) -> CompiledModel:
        return ExecuTorchModel(file.read_bytes(), self.threads)


def _quantizer(model: nn.Module) -> Any:
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack

    float_names = set(float_layers(model))
    quantizer = xnnpack.XNNPACKQuantizer()
    quantizer.set_global(exact_weights(xnnpack.get_symmetric_quantization_config(is_per_channel=True)))

    def rounded(node: torch.fx.Node) -> bool:
        return not float_names & {name for name, _ in node.meta.get("nn_module_stack", {}).values()}

    quantizer.set_filter_function(rounded)
    return quantizer


def _lowered(program: Any, facts: dict[str, Any]) -> bytes:
    """The program in ExecuTorch's format, with a method that returns the facts."""
    with silence():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        edge = to_edge_transform_and_lower(
            program, partitioner=[XnnpackPartitioner()], constant_methods={_FACTS: json.dumps(facts)}
        )
        return bytes(edge.to_executorch().buffer)
