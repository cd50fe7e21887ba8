"""ONNX Runtime's own profile, which is a file of events, read together with the graph that it runs."""

from __future__ import annotations

import functools
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nasbench_compression.compilation.backend import Images
from nasbench_compression.compilation.profiler import (
    BYTES,
    QUIET,
    OperatorTime,
    Profiler,
    is_product,
    product_macs,
)
from nasbench_compression.timing import TURN, take_turns

COLD = 3  # first calls, which allocate
CHAIN, RUNS = 64, 200  # operators that do next to nothing, and how often they run, to see what the profiler adds
LEAST = 0.1  # of what the profile says, which is left of an operator at least

_CASTS = ("QuantizeLinear", "DequantizeLinear", "Cast", "DynamicQuantizeLinear")
_REORDERS = ("ReorderInput", "ReorderOutput", "Transpose")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_TYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "uint8": "int8", "int8": "int8"}
_SUFFIX = re.compile(r"(_token_\d+|_nchwc|_quant|/QuickGeluFusion/|/GemmFusion/)+$")


class OnnxRuntimeProfiler(Profiler):
    """A second session of the same file, with the profiler on.

    Args:
        open_session: Function (file for the optimized graph, prefix for the profile) that opens a session.
        artefact: ONNX file.
        images: Images of one call.
    """

    def __init__(self, open_session: Any, artefact: bytes, images: Images) -> None:
        self._folder = Path(tempfile.mkdtemp())
        self._optimized, self._artefact = self._folder / "optimized.onnx", artefact
        self._session = open_session(self._optimized, str(self._folder / "profile"))
        self._inputs = {self._session.get_inputs()[0].name: images}

    def __call__(self) -> None:
        """See `Profiler`."""
        self._session.run(None, self._inputs)

    def operators(self, call_s: float) -> list[OperatorTime]:
        """See `Profiler`; of each operator what it takes in the quieter calls."""
        try:
            events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
            return _operators(events, self._optimized, self._artefact)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def _operators(events: list[dict[str, Any]], optimized: Path, artefact: bytes) -> list[OperatorTime]:
    import onnx

    run = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    calls: dict[str, list[dict[str, Any]]] = {}
    for event in run:
        calls.setdefault(event["args"]["node_index"], []).append(event)
    graph, source = onnx.load(optimized).graph, onnx.load_from_string(artefact).graph
    nodes = {node.name: node for node in graph.node}
    weights = {entry.name: tuple(entry.dims) for entry in graph.initializer}
    parts = _Parts(source)
    return [_operator(node_events, nodes, weights, parts) for node_events in calls.values()]


def _operator(
    node_events: list[dict[str, Any]], nodes: Mapping[str, Any], weights: Mapping[str, tuple[int, ...]], parts: _Parts
) -> OperatorTime:
    name, event_arguments = node_events[-1]["name"].removesuffix("_kernel_time"), node_events[-1]["args"]
    kind = event_arguments["op_name"]
    inputs, outputs = (
        [next(iter(entry.items())) for entry in event_arguments[key]]
        for key in ("input_type_shape", "output_type_shape")
    )
    node = nodes.get(name)
    shapes = [weights[key] for key in node.input if len(weights.get(key, ())) > 1] if node is not None else []
    cast, reorder = kind in _CASTS, kind in _REORDERS
    macs = channels = None
    if inputs and outputs and not (cast or reorder):
        weight = shapes[0] if shapes else tuple(inputs[1][1]) if len(inputs) > 1 else ()
        macs = product_macs(kind, inputs[0][1], weight, outputs[0][1])
        if macs is not None:
            channels = (weight[1], weight[0]) if "Conv" in kind else (inputs[0][1][-1], outputs[0][1][-1])
    precision = _TYPES.get(inputs[0][0] if inputs else "", "fp32")
    if "Integer" in kind or kind.startswith(("QLinear", "QGemm", "QAttention", "DynamicQuantizeMatMul")):
        precision = "int8"
    moved_bytes = sum(int(event_arguments.get(key) or 0) for key in ("activation_size", "output_size"))
    stored = sum(_size(shape) for shape in shapes) * BYTES[precision]
    seconds = float(np.quantile([event["dur"] for event in node_events[COLD:] or node_events], QUIET)) * 1e-6
    per_operator, per_input = _added_s()
    return OperatorTime(
        name=name,
        kind=kind,
        seconds=max(LEAST * seconds, seconds - per_operator - per_input * len(inputs)),
        precision=precision,
        cast=cast,
        reorder=reorder,
        parts=() if cast or reorder else parts.of(name, is_product=is_product(kind)),
        macs=macs,
        bytes=moved_bytes + max(stored, int(event_arguments.get("parameter_size") or 0)),
        channels=channels,
    )


@functools.cache
def _added_s() -> tuple[float, float]:
    """Seconds that the profiler adds to an operator, which it takes for the operator's: some, and more for each input.

    The end of an operator is read from the clock after its shapes were written down. How long that takes is what a
    chain of operators that do next to nothing seems to take, less what it takes without the profiler.
    """
    seeming = {inputs: _seeming_s(inputs) for inputs in (1, 8)}
    per_input = max(0.0, (seeming[8] - seeming[1]) / 7)
    return max(0.0, seeming[1] - per_input), per_input


def _seeming_s(inputs: int) -> float:
    import onnxruntime
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Max", [f"x{at}"] + ["x0"] * (inputs - 1), [f"x{at + 1}"]) for at in range(CHAIN)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x0", f"x{CHAIN}")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feed = {"x0": np.zeros(1, np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        sessions = []
        for profiled in (False, True):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.log_severity_level = 3
            options.enable_profiling, options.profile_file_prefix = profiled, str(Path(folder) / "profile")
            sessions.append(onnxruntime.InferenceSession(model.SerializeToString(), options))
        calls = [lambda session=session: session.run(None, feed) for session in sessions]
        turns = take_turns(calls, lambda turns, _: len(turns[0]) * TURN >= RUNS, turn=TURN)
        events = json.loads(Path(sessions[1].end_profiling()).read_text(encoding="utf-8"))
    seeming = float(np.quantile([event["dur"] for event in events if event.get("cat") == "Node"], QUIET)) * 1e-6
    return seeming - float(np.quantile(np.concatenate(turns[0]), QUIET)) / CHAIN


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for number in shape:
        size *= number
    return size


class _Parts:
    """Which operators of the file are computed in one of the optimized graph.

    Optimizations keep the name of a node, or that of the tensor that it makes; from there back lie the operators that
    were fused into a product, up to the one that multiplies.
    """

    def __init__(self, source: Any) -> None:
        self._nodes = {node.name: node for node in source.node if node.name}
        self._makers = {output: node for node in source.node for output in node.output}
        readers: dict[str, list[Any]] = {}
        for node in source.node:
            for entry in node.input:
                readers.setdefault(entry, []).append(node)
        self._readers = readers

    def of(self, name: str, *, is_product: bool) -> tuple[str, ...]:
        """The operators that a node computes, by its name; only a product has others fused into it."""
        bare = _SUFFIX.sub("", name)
        node = self._nodes.get(name) or self._nodes.get(bare) or self._makers.get(bare) or self._makers.get(name)
        if node is None:
            return ()
        chain = [node]
        is_fused = is_product and bare in self._makers and bare not in self._nodes
        while is_fused and chain[-1].op_type not in _WEIGHTED:
            before = next((self._makers[key] for key in chain[-1].input if key in self._makers), None)
            if before is None or len(self._readers.get(before.output[0], ())) > 2:
                break
            chain.append(before)
        if chain[-1].op_type not in _WEIGHTED:
            chain = chain[:1]
        return tuple(part.name for part in reversed(chain) if part.op_type not in _CASTS)


def module_name(node: str) -> str:
    """The module in whose forward an exported node was made; empty for the network itself.

    It is ``blocks.0.conv`` of ``/blocks/blocks.0/conv/Conv``.
    """
    path = ""
    for scope in node.split("/")[1:-1]:
        path = scope if not path or scope.startswith(f"{path}.") else f"{path}.{scope}"
    return path
