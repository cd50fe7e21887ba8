"""AOTInductor: PyTorch's compiler ahead of time, into a package that needs no Python."""

from __future__ import annotations

import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench_compression.compilation.backend import Backend, CompiledModel, SingleFile, torch_threads
from nasbench_compression.compilation.exported import operators, silence
from nasbench_compression.compilation.inductor import compiling, exported, kernels
from nasbench_compression.compilation.signature import Array, Signature, arrays, signature_of

_FILE = "model.pt2"
_FACTS = "nasbench"  # key of the package's metadata


class AotModel(SingleFile):
    """A package of AOTInductor, loaded."""

    filename: ClassVar[str] = _FILE
    why_not_profiled: ClassVar[str] = (
        "its library is compiled without marks for a profiler; backend torch_compile runs the same kernels and can be"
    )

    def __init__(self, artefact: bytes, threads: int) -> None:
        self.artefact = artefact
        self.threads = threads
        with tempfile.TemporaryDirectory() as folder, silence():
            file = Path(folder) / _FILE
            file.write_bytes(artefact)
            self._network = torch._inductor.aoti_load_package(str(file))  # it has its own copy of the library inside
            with zipfile.ZipFile(file) as package:
                sources = [name for name in package.namelist() if name.endswith(".wrapper.cpp")]
                self._code = "".join(package.read(name).decode() for name in sources)
        self._facts = json.loads(self._network.get_metadata()[_FACTS])
        self.precision: str = self._facts["precision"]
        self.signature = Signature.from_json(self._facts.get("signature"))

    @property
    def batch(self) -> int:
        """See `CompiledModel`."""
        return int(self._facts["shape"][0])

    def _run(self, images: Array) -> list[Array]:
        with torch.no_grad(), torch_threads(self.threads):
            return arrays(self._network(torch.from_numpy(images)))

    def describe(self) -> dict[str, Any]:
        """See `CompiledModel`; `operators_optimized` are the kernels that the package's code calls, see `kernels`.

        `compiled_threads` is the number of threads that the generated kernels were compiled for, and `instructions`
        names the instruction set.
        """
        return {
            "backend": "aot_inductor",
            "version": torch.__version__,
            "precision": self.precision,
            "threads": self.threads,
            "compiled_threads": self._facts["threads"],
            "instructions": self._network.get_metadata().get("AOTI_CPU_ISA", ""),
            "batch": self.batch,
            "operators": self._facts["operators"],
            "operators_optimized": kernels(self._code.partition("::run_impl(")[2]),
        }


@dataclass(frozen=True, kw_only=True)
class AotInductor(Backend):
    """AOTInductor on the CPU, which needs a C++ compiler to compile, and to load nothing but PyTorch.

    As `TorchCompile`, but all is compiled into one library, for the instruction set of this processor, and no
    Python runs in a call. The artefact is that library with its weights; it runs with the version of PyTorch that
    made it.

    "bf16" stores weights and computes in bfloat16, from and to float32 at both ends. Int8 is left to `TorchCompile`.

    Attributes:
        threads: Number of threads that a call may use. Kernels that Inductor wrote keep the number that they were
            compiled for; those of oneDNN take this one.
    """

    name: ClassVar[str] = "aot_inductor"
    summary: ClassVar[str] = "AOTInductor: Inductor's kernels in a library, without Python"
    source: ClassVar[str] = "https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    compile_s: ClassVar[float] = 30.0
    also_needs: ClassVar[str] = "nasbench_compression.compilation.availability:no_compiler"
    artefact: ClassVar[str] = _FILE
    usage: ClassVar[str] = """
        import torch

        network = torch._inductor.aoti_load_package("{file}")  # with the version of PyTorch that made it
        with torch.no_grad():  # it takes as many images at a time
            logits = torch.cat([network(part) for part in torch.from_numpy(images).split({batch})]).numpy()
    """

    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        program = exported(self.name, model, example_inputs, precision, calibration)
        facts = {
            "precision": precision,
            "shape": list(example_inputs.shape),
            "threads": self.threads,
            "operators": operators(program),
            "signature": signature_of(model).to_json(),
        }
        metadata = {"aot_inductor.metadata": {_FACTS: json.dumps(facts)}}
        with tempfile.TemporaryDirectory() as folder, compiling(self.threads):
            file = torch._inductor.aoti_compile_and_package(
                program, package_path=str(Path(folder) / _FILE), inductor_configs=metadata
            )
            artefact = Path(file).read_bytes()
        return AotModel(artefact, self.threads)

    def _load(self, file: Path) -> CompiledModel:
        return AotModel(file.read_bytes(), self.threads)
