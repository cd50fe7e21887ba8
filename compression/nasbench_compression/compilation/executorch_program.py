"""Operators that a program of ExecuTorch runs, read from its file."""

from __future__ import annotations

import importlib.resources
import re
import tempfile
from pathlib import Path

from nasbench_compression.compilation.exported import counted, silence


def executed(artefact: bytes) -> tuple[list[str], dict[str, int]]:
    """The kernels that ExecuTorch calls itself, and how many nodes of each kind XNNPACK runs, read from a program."""
    with silence():
        from executorch.exir._serialize._program import deserialize_pte_binary

        program = deserialize_pte_binary(artefact).program
        plan = next(plan for plan in program.execution_plan if plan.name == "forward")
    calls = [instruction.instr_args for chain in plan.chains for instruction in chain.instructions]
    kernels = [plan.operators[call.op_index].name.partition("::")[2] for call in calls if hasattr(call, "op_index")]
    parts = [program.backend_delegate_data[delegate.processed.index].data for delegate in plan.delegates]
    return kernels, counted(kind for part in parts for kind in _xnnpack_nodes(bytes(part)))


def _xnnpack_nodes(part: bytes) -> list[str]:
    """The kinds of the nodes in a part that XNNPACK runs, read with the tool that wrote them."""
    import executorch.backends.xnnpack.serialization as serialization
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = XNNHeader.from_bytes(part[: XNNHeader.EXPECTED_LENGTH])
    with tempfile.TemporaryDirectory() as folder:
        schema, binary = Path(folder) / "schema.fbs", Path(folder) / "graph.bin"
        schema.write_bytes((importlib.resources.files(serialization) / "schema.fbs").read_bytes())
        binary.write_bytes(part[header.flatbuffer_offset :][: header.flatbuffer_size])
        _flatc_decompile(folder, str(schema), str(binary), ["--raw-binary"])
        text = binary.with_suffix(".json").read_text(encoding="utf-8")
    return re.findall(r'"xnode_union_type": "(\w+)"', text)  # not all of it is JSON: bounds may be infinite
