"""TVM: kernels that LLVM compiles, with schedules found by search."""

from __future__ import annotations

import io
import json
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench_compression.checks import check_number
from nasbench_compression.compilation import tvm_build
from nasbench_compression.compilation.backend import Backend, CompiledModel, SingleFile
from nasbench_compression.compilation.child import ChildError, run_child
from nasbench_compression.compilation.descriptors import descriptors_closed
from nasbench_compression.compilation.exported import deployable, export, silence
from nasbench_compression.compilation.signature import Array, Signature, signature_of
from nasbench_compression.compilation.tvm_threads import pool
from nasbench_registry import UserError, WorkFailed

_FILE = "model.so"


class TvmModel(SingleFile):
    """A library of TVM in its virtual machine."""

    filename: ClassVar[str] = _FILE
    why_not_profiled: ClassVar[str] = "the virtual machine of this TVM has no profiler"

    def __init__(self, artefact: bytes, threads: int) -> None:
        self.artefact = artefact
        self.threads = threads
        with silence(), descriptors_closed():
            import tvm

            self._machine = tvm_build.load(artefact)
            self._facts = json.loads(self._machine[tvm_build.FACTS]().numpy().tobytes())
            self._main = self._machine["main"]
            self._tensor = tvm.runtime.tensor
        self._version = tvm.__version__
        self.precision: str = self._facts["precision"]
        self.signature = Signature.from_json(self._facts.pop("signature", None))
        self._lock = threading.Lock()  # the virtual machine keeps its place in itself

    @property
    def batch(self) -> int:
        """See `CompiledModel`."""
        return int(self._facts["batch"])

    def _outputs(self, images: Array) -> list[Array]:
        with self._lock:
            pool.use(self.threads)
            return super()._outputs(images)

    def _run(self, images: Array) -> list[Array]:
        return [output.numpy() for output in self._main(self._tensor(images))]

    def describe(self) -> dict[str, Any]:
        """See `CompiledModel`; `operators_optimized` are the kernels called, named after what is fused into each.

        Where trials were asked for, `tuned` says whether the tuned kernels were taken, that is, whether the network was
        faster with them; `kernels_tuned_to_untuned` is the ratio of the kernels' times, each measured by itself;
        `records` is how many schedules of these kernels are on record, `trials_run` how many of them were measured
        in this compilation, which took `tuning_s` without the final builds.
        """
        return {"backend": "tvm", "version": self._version, "threads": self.threads, **self._facts}


@dataclass(frozen=True, kw_only=True)
class Tvm(Backend):
    """TVM on the CPU, which needs a C++ compiler to link what LLVM, inside TVM, compiles for this processor.

    The network is exported, batch norm folded, for the batch of the example; every operator becomes a loop nest, and
    elementwise ones are fused into those before them. Without trials these loops run as written, which is slow and
    takes one thread. With trials, schedules (tilings, vectors, threads) of the kernels that take time are drawn at
    random and measured one after the other, see `tvm_tuning`; each kernel gets the fastest one measured, if that beats
    the loops as written, and all of them are taken if the network gets faster.

    Tuning runs in a process of its own: if that crashes or takes too long, the compilation fails with the reason and
    nothing else happens. Measurements differ from run to run, and so may the schedules; a folder of records, once it
    has all the trials, gives the same ones again.

    Only float32 is offered. TVM's front end for torch.export knows no rounding operators, and the one for ONNX turns
    Q/DQ nodes into float layers with rounding in between, which is no faster than float.

    Attributes:
        threads: Number of threads that a call may use; the schedules are for so many.
        trials: Number of schedules to measure, all kernels together; 0 leaves the kernels untuned.
        records: Folder that keeps what was measured, by processor and threads. Trials found there count, so that
            tuning goes on where it ended, and networks share kernels. None keeps nothing.
        seed: Random seed of the schedules drawn.
        max_minutes: Minutes after which tuning is ended with an error; records stay.
    """

    name: ClassVar[str] = "tvm"
    summary: ClassVar[str] = "TVM: kernels compiled by LLVM, tuned by MetaSchedule"
    source: ClassVar[str] = "https://tvm.apache.org/docs"
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    compile_s: ClassVar[float] = 6.0
    artefact: ClassVar[str] = _FILE
    packages: ClassVar[tuple[str, ...]] = ("tvm",)
    extra: ClassVar[str] = "tvm"
    also_needs: ClassVar[str] = "nasbench_compression.compilation.availability:no_compiler_for_tvm"
    usage: ClassVar[str] = """
        import numpy as np
        import tvm
        from tvm import relax

        machine = relax.VirtualMachine(tvm.runtime.load_module("./{file}"), tvm.cpu())
        parts = [images[at : at + {batch}] for at in range(0, len(images), {batch})]  # it takes as many at a time
        logits = np.concatenate([machine["main"](tvm.runtime.tensor(part))[0].numpy() for part in parts])
    """

    trials: int = 0
    records: str | None = None
    seed: int = 0
    max_minutes: float = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("tvm trials", self.trials, at_least=0, integer=True)
        check_number("tvm seed", self.seed, at_least=0, integer=True)
        check_number("tvm max_minutes", self.max_minutes, above=0)
        if self.records is not None and (not isinstance(self.records, str) or Path(self.records).is_file()):
            raise UserError(f"tvm records is {self.records!r}; give a folder, which is made if it is not there.")

    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        program = export(deployable(model, example_inputs), example_inputs)
        with descriptors_closed():
            target = tvm_build.target(self.threads)
            module, operators = tvm_build.import_program(program)
            module = tvm_build.fused(module, target)
            facts = {
                "precision": precision,
                "batch": len(example_inputs),
                "signature": signature_of(model).to_json(),
                "trials": self.trials,
                "operators": operators,
                "operators_optimized": tvm_build.kernels(module),
                "tuned": False,
            }
            if not self.trials:
                return TvmModel(tvm_build.library(module, target, facts), self.threads)
        return TvmModel(self._tuned(program, example_inputs, facts), self.threads)

    def _tuned(self, program: Any, example: Tensor, facts: dict[str, Any]) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            program_file, library_file = Path(folder) / "program.pt2", Path(folder) / _FILE
            buffer = io.BytesIO()
            with silence():
                torch.export.save(program, buffer)
            program_file.write_bytes(buffer.getvalue())
            request = {
                "program": str(program_file),
                "library": str(library_file),
                "records": str(Path(self.records or Path(folder) / "records").resolve()),
                "trials": self.trials,
                "seed": self.seed,
                "threads": self.threads,
                "shape": list(example.shape),
                "dtype": str(example.dtype).removeprefix("torch."),
                "facts": facts,
            }
            environment = {"TVM_NUM_THREADS": str(self.threads), "TVM_BIND_THREADS": "0", "TMPDIR": folder}
            try:
                run_child(
                    ["-m", "nasbench_compression.compilation.tvm_tuning"],
                    request,
                    timeout_s=60 * self.max_minutes,
                    environment=environment,
                )
            except ChildError as error:
                records_hint = f"; what it measured is kept in {self.records}" if self.records else ""
                raise WorkFailed(f"TVM's tuning of this network failed: {error}{records_hint}") from error
            return library_file.read_bytes()

    def _load(self, file: Path) -> CompiledModel:
        return TvmModel(file.read_bytes(), self.threads)
