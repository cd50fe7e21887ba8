"""torch.compile: PyTorch's compiler in the process that runs the network."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench_compression.compilation.backend import Backend, CompiledModel, Images, SingleFile, torch_threads
from nasbench_compression.compilation.exported import operators, silence
from nasbench_compression.compilation.inductor import compiling, exported, generated, kernels
from nasbench_compression.compilation.signature import Array, Signature, arrays, signature_of
from nasbench_compression.compilation.torch_profile import TorchProfiler
from nasbench_registry import one_of

_FILE = "model.pt2"
_FACTS = "nasbench.json"
_MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "max-autotune": {
        "max_autotune": True,
        "autotune_num_choices_displayed": 0,
        "max_autotune_report_choices_stats": False,
    },
}


class TorchCompiledModel(SingleFile):
    """An exported network, compiled by Inductor when this object is made."""

    filename: ClassVar[str] = _FILE

    def __init__(self, artefact: bytes, threads: int, mode: str) -> None:
        self.artefact = artefact
        self.threads = threads
        self.mode = mode
        files = {_FACTS: ""}
        with silence():
            if importlib.util.find_spec("torchao") is not None:
                importlib.import_module("torchao.quantization.pt2e")  # operators of int8, and how Inductor fuses them
            program = torch.export.load(io.BytesIO(artefact), extra_files=files)
        facts = json.loads(files[_FACTS])
        self.precision: str = facts["precision"]
        self._shape: tuple[int, ...] = tuple(facts["shape"])
        self.signature = Signature.from_json(facts.get("signature"))
        self._operators = operators(program)
        self._compile(program.module())

    def _compile(self, module: Any) -> None:
        # What torch.compile calls, without its search in each call for the code of this graph, which
        # torch._dynamo.reset() would throw away.
        example = torch.zeros(self._shape, dtype=getattr(torch, self.signature.dtype))
        with compiling(self.threads, **_MODES[self.mode]), generated() as sources:
            self._network: Any = torch._inductor.compile(module, [example])
            self._network(example)
        self._kernels = kernels("".join(source.partition("def call(")[2] for source in sources))

    @property
    def batch(self) -> int:
        """See `CompiledModel`."""
        return self._shape[0]

    def _run(self, images: Array) -> list[Array]:
        with torch.no_grad(), torch_threads(self.threads):
            return arrays(self._network(torch.from_numpy(images)))

    def profiler(self, images: Images) -> TorchProfiler:
        """See `CompiledModel`; it is compiled again, with marks in the code that Inductor writes."""
        with torch._inductor.config.patch({"cpp.enable_kernel_profile": True}):
            marked = TorchCompiledModel(self.artefact, self.threads, self.mode)
        return TorchProfiler(lambda: marked._run(images), None, self.precision)

    def describe(self) -> dict[str, Any]:
        """See `CompiledModel`; `operators_optimized` are the kernels that the generated code calls, see `kernels`."""
        return {
            "backend": "torch_compile",
            "version": torch.__version__,
            "precision": self.precision,
            "threads": self.threads,
            "mode": self.mode,
            "batch": self._shape[0],
            "operators": self._operators,
            "operators_optimized": self._kernels,
        }


@dataclass(frozen=True, kw_only=True)
class TorchCompile(Backend):
    """torch.compile with Inductor, which needs a C++ compiler.

    The network is exported, batch norm folded, for the batch of the example. Inductor, the compiler behind
    torch.compile, then writes C++ for what lies between the layers and takes oneDNN for convolutions, with the
    activation fused in. The artefact is the exported network; loading it compiles again, in seconds where Inductor's
    cache on this machine still has the kernels, and in as long as at first where it has not.

    "bf16" stores weights and computes in bfloat16, from and to float32 at both ends. "int8" is torchao's static
    quantization for Inductor: signed weights with a scale for each output channel, unsigned inputs, ranges from the
    histograms over the calibration images, oneDNN's integer kernels. A network from the step `quantize` keeps its
    weights, and its layers in float stay so; ranges are read from the images.

    Attributes:
        threads: Number of threads that a call may use; the generated code is for so many.
        mode: Mode of the compiler: "default"; or "max-autotune", which times several kernels for the linear layers and
            takes the fastest, so that two compilations may differ in rounding.
    """

    name: ClassVar[str] = "torch_compile"
    summary: ClassVar[str] = "torch.compile with Inductor; compiles again when loaded"
    source: ClassVar[str] = "https://docs.pytorch.org/docs/stable/torch.compiler.html"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "int8")
    compile_s: ClassVar[float] = 30.0
    also_needs: ClassVar[str] = "nasbench_compression.compilation.availability:no_compiler"
    artefact: ClassVar[str] = _FILE
    usage: ClassVar[str] = """
        import torch

        network = torch.compile(torch.export.load("{file}").module())
        with torch.no_grad():  # it takes as many images at a time
            logits = torch.cat([network(part) for part in torch.from_numpy(images).split({batch})]).numpy()
    """

    mode: str = "default"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("torch_compile mode", self.mode, _MODES)

    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        program = exported(self.name, model, example_inputs, precision, calibration)
        program.example_inputs = None  # they would be stored with it
        facts = {
            "precision": precision,
            "shape": list(example_inputs.shape),
            "signature": signature_of(model).to_json(),
        }
        buffer = io.BytesIO()
        with silence():
            torch.export.save(program, buffer, extra_files={_FACTS: json.dumps(facts)})
        return TorchCompiledModel(_packed(buffer), self.threads, self.mode)

    def _load(self, file: Path) -> CompiledModel:
        return TorchCompiledModel(file.read_bytes(), self.threads, self.mode)


def _packed(program: io.BytesIO) -> bytes:
    """The archive with its JSON compressed, which is most of a small network's; PyTorch reads it as it is."""
    packed = io.BytesIO()
    with zipfile.ZipFile(program) as before, zipfile.ZipFile(packed, "w") as after:
        for entry in before.infolist():
            packed_entry = zipfile.ZipInfo(
                entry.filename
            )  # of a fixed date, so that the same network makes the same file
            packed_entry.compress_type = (
                zipfile.ZIP_DEFLATED if entry.filename.endswith(".json") else zipfile.ZIP_STORED
            )
            after.writestr(packed_entry, before.read(entry))
    return packed.getvalue()
