"""From an exported network to a library of TVM: Relax, the compiler's graph, and then LLVM."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nasbench_compression.compilation.exported import counted, silence
from nasbench_registry import WorkFailed

FACTS = "nasbench"  # a function of the library that returns the facts of `describe`
_OPAQUE = 8  # TVM's word for a kernel with which nothing is fused


def target(threads: int) -> Any:
    """This machine's processor, with so many threads.

    LLVM may add numbers in another order, without which it vectorizes no sum: untuned code is up to twice as fast.
    """
    import tvm
    from tvm.target import codegen

    processor = codegen.llvm_get_system_cpu()
    return tvm.target.Target({"kind": "llvm", "mcpu": processor, "num-cores": threads, "fast-math-reassoc": True})


def import_program(program: Any) -> tuple[Any, dict[str, int]]:
    """The Relax module of an `ExportedProgram`, and how many operators of each kind it has.

    Raises:
        WorkFailed: TVM does not know an operator; the message says which.
    """
    with silence():
        from tvm.relax.frontend.torch import from_exported_program

        try:
            module = from_exported_program(_counting_from_the_front(program))
        except Exception as error:  # whatever it trips over
            words = " ".join(str(error).split())[:300] or type(error).__name__
            raise WorkFailed(f"TVM cannot take this network: {words}") from error
    kinds = (_operator(call) for call in _calls(module["main"]))
    return module, counted(kind for kind in kinds if kind)


def _counting_from_the_front(program: Any) -> Any:
    """The program with ``x[:, -1]`` and its like as indices from 0; TVM reads what lies in memory before the tensor."""
    import torch

    aten = torch.ops.aten
    for node in list(program.graph.nodes):
        if node.target is aten.select.int and node.args[2] < 0:
            source, dimension, index = node.args
            node.args = (source, dimension, index + int(source.meta["val"].shape[dimension]))
        elif node.target is aten.index.Tensor:
            source, original_indices = node.args
            indices = list(original_indices)
            for dimension, index in enumerate(indices):
                if index is None or index.meta["val"].dtype is torch.bool:
                    continue
                with program.graph.inserting_before(node):
                    size = int(source.meta["val"].shape[dimension])
                    indices[dimension] = program.graph.call_function(aten.remainder.Scalar, (index, size))
                    indices[dimension].meta["val"] = index.meta["val"]
            node.args = (source, indices)
    return program


def fused(module: Any, target: Any) -> Any:
    """The module in kernels: every operator a loop nest, fused with the elementwise ones after it."""
    import tvm
    from tvm import relax

    passes = [
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        tvm.transform.module_pass(_keep_padding_apart, opt_level=0),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
    ]
    with silence(), target:
        return tvm.transform.Sequential(passes)(module)


def _keep_padding_apart(module: Any, context: Any) -> Any:
    """A kernel into which a padded shortcut is fused has no schedules that TVM's search could try."""
    for name, function in module.functions.items():
        if re.fullmatch(r"pad\d*", name.name_hint):
            module.update_func(name, function.with_attr("op_pattern", _OPAQUE))
    return module


def kernels(module: Any) -> dict[str, int]:
    """How often a fused module calls kernels of each kind; reshapes, which become views, are left out."""
    from tvm import relax

    names = (_kernel(call) for call in _calls(relax.transform.RewriteDataflowReshape()(module)["main"]))
    return counted(name for name in names if name)


def executable(module: Any, target: Any) -> Any:
    """The module of `fused`, compiled."""
    import tvm

    with silence(), target, tvm.transform.PassContext(opt_level=3):
        return tvm.compile(module, target=target)


def library(module: Any, target: Any, facts: dict[str, Any]) -> bytes:
    """A shared library that `load` reads, linked by the C++ compiler of this machine.

    Args:
        module: Module that `fused` returned.
        target: Processor, see `target`.
        facts: Facts (JSON) that go into the library.
    """
    from tvm import relax

    builder = relax.BlockBuilder(module)
    with builder.function(FACTS, []):
        builder.emit_func_output(relax.const(np.frombuffer(json.dumps(facts).encode(), np.uint8)))
    compiled = executable(builder.finalize(), target)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.so"
        compiled.export_library(str(file))
        return file.read_bytes()


def load(artefact: bytes) -> Any:
    """The virtual machine that runs a library."""
    import tvm
    from tvm import relax

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.so"
        file.write_bytes(artefact)
        return relax.VirtualMachine(tvm.runtime.load_module(str(file)), tvm.cpu())


def _calls(function: Any) -> Iterator[Any]:
    from tvm import relax

    for block in function.body.blocks:
        for binding in block.bindings:
            if isinstance(binding.value, relax.Call):
                yield binding.value


def _operator(call: Any) -> str:
    name = getattr(call.op, "name", "")
    return str(name).removeprefix("relax.").removeprefix("nn.")


def _kernel(call: Any) -> str:
    """Name of a kernel without the numbers that TVM adds for kernels of a kind: fused_conv2d3_add2_relu1."""
    if getattr(call.op, "name", "") != "relax.call_tir":
        return ""
    return "_".join(re.sub(r"(?<=[a-z])\d+$", "", word) for word in call.args[0].name_hint.split("_"))
