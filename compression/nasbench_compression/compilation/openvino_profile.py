"""OpenVINO's counters of performance, which its runtime graph holds beside shapes and types."""

from __future__ import annotations

import math
import time
from statistics import fmean
from typing import Any

import numpy as np

from nasbench_compression.compilation.backend import Images
from nasbench_compression.compilation.profiler import BYTES, QUIET, OperatorTime, Profiler, product_macs

_CASTS = ("FakeQuantize", "Convert")
_TRUNCATED_S = 1e-6
"""Each duration is cut off to whole microseconds, and so is their mean: one is missing on average."""
_UNCOUNTED_S = 5e-7
"""What is shorter than a microsecond in the mean is called "not_executed", as what only renames memory is."""


class OpenVinoProfiler(Profiler):
    """The same model compiled again, with counters.

    The counters keep means, which what else the machine does draws up. So the means are scaled by how much longer than
    a quiet call the mean call took meanwhile.

    Args:
        compiled: Model, compiled with PERF_COUNT.
        images: Images of one call.
    """

    def __init__(self, compiled: Any, images: Images) -> None:
        self._compiled, self._images = compiled, images
        self._request = compiled.create_infer_request()
        self._calls: list[float] = []

    def __call__(self) -> None:
        """See `Profiler`."""
        before = time.perf_counter()
        self._request.infer({0: self._images}, share_inputs=True)
        self._calls.append(time.perf_counter() - before)

    def operators(self, call_s: float) -> list[OperatorTime]:
        """See `Profiler`."""
        noise = float(np.quantile(self._calls, QUIET)) / fmean(self._calls)
        return [
            _operator(node, info, noise)
            for node in self._compiled.get_runtime_model().get_ordered_ops()
            if _works(node, info := {key: node.get_rt_info()[key].astype(str) for key in node.get_rt_info()})
        ]


def _works(node: Any, info: dict[str, str]) -> bool:
    """Whether a node does anything at a call: it has a duration, or a kernel of its own that changes the precision."""
    if _counted(info):
        return True
    kind, kernel = info["layerType"], info["primitiveType"]
    if kind in ("Const", "Input", "Output") or kernel.startswith("unknown") or not node.inputs():
        return False
    return kind != "Reorder" or _precisions(node, info)[0] != _precisions(node, info)[1]


def _counted(info: dict[str, str]) -> bool:
    return info["execTimeMcs"] not in ("not_executed", "", "0")


def _precisions(node: Any, info: dict[str, str]) -> tuple[str, str]:
    """Of the first input, or else of the kernel, and of the first output."""
    kernel = _precision(info["primitiveType"].rpartition("_")[2].lower())
    before = _precision(node.inputs()[0].get_element_type().get_type_name()) if node.inputs() else kernel
    return before, _precision(info["outputPrecisions"].split(",")[0].lower())


def _operator(node: Any, info: dict[str, str], noise: float) -> OperatorTime:
    kind, kernel = info["layerType"], info["primitiveType"]
    precision = _precision(kernel.rpartition("_")[2].lower())
    inputs = [([int(size) for size in port.get_shape()], port.get_element_type()) for port in node.inputs()]
    output_shape = [int(size) for size in node.outputs()[0].get_shape()]
    input_shape, weight_shape = inputs[0][0] if inputs else [], inputs[1][0] if len(inputs) > 1 else []
    grouped = len(weight_shape) == len(input_shape) + 1
    macs = (
        product_macs(kind, input_shape, weight_shape[1:] if grouped else weight_shape, output_shape)
        if weight_shape
        else None
    )
    before, after = _precisions(node, info)
    parts = [part for part in info["originalLayersNames"].split(",") if part]
    changes = before != after and "int8" in (before, after)
    cast = kind in _CASTS or (kind in ("Subgraph", "Reorder", "Eltwise") and changes and len(inputs) == 1)
    input_bytes = sum(math.prod(shape) * BYTES[_precision(number.get_type_name())] for shape, number in inputs)
    return OperatorTime(
        name=node.friendly_name,
        kind=kind,
        seconds=(int(info["execTimeMcs"]) * 1e-6 + _TRUNCATED_S if _counted(info) else _UNCOUNTED_S) * noise,
        precision=precision,
        cast=cast,
        reorder=kind == "Reorder" and not cast,
        parts=() if cast or kind == "Reorder" else tuple(parts),
        macs=macs,
        bytes=input_bytes + math.prod(output_shape) * BYTES[after],
        channels=(weight_shape[-3], output_shape[1])
        if macs is not None and len(input_shape) == 4
        else (input_shape[-1], output_shape[-1])
        if macs
        else None,
    )


def _precision(name: str) -> str:
    if name in ("i8", "u8", "int8", "uint8"):
        return "int8"
    return {"f16": "fp16", "bf16": "bf16"}.get(name, "fp32")
