"""torch.profiler over a network in eager mode, or over what Inductor made of one."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from nasbench_compression.compilation.descriptors import descriptors_closed
from nasbench_compression.compilation.profiler import QUIET, OperatorTime, Profiler, is_product

CALLS = 5  # in one run of the profiler, whose start and end take as long as many calls
LEAST = 0.1  # of what the profile says, which is left of an operator at least
_SMALL = 200
_CALL, _LAYER = "nasbench call", "nasbench layer "
_OPERATORS = ("aten::", "mkldnn::", "mkl::", "onednn::", "quantized::")
_FREE = tuple(
    f"aten::{name}" for name in ("detach", "lift_fresh", "view", "to", "resolve_", "empty", "reshape", "flatten")
)
_FREE += ("aten::alias", "aten::as_strided", "aten::resize_")


class TorchProfiler(Profiler):
    """What `run` dispatches, by torch.profiler.

    Each event costs the profiler time, which those around it seem to take. What one costs is measured, and taken out.

    Args:
        run: Function that makes one call.
        network: Network in eager mode whose modules without parts are told apart; None where there is none.
        precision: Precision in which the network computes.
    """

    def __init__(self, run: Callable[[], object], network: nn.Module | None, precision: str) -> None:
        self._run, self._precision = run, precision
        self._network = network
        self._calls: list[list[_Event]] = []

    def __call__(self) -> None:
        """See `Profiler`; `CALLS` of them."""
        from torch.profiler import ProfilerActivity, profile, record_function

        handles = [] if self._network is None else _marked(self._network)
        try:
            with descriptors_closed(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
                for _ in range(CALLS):
                    with record_function(_CALL):
                        self._run()
            events = profiled.events()
        finally:
            for handle in handles:
                handle.remove()
        calls = [event for event in events if event.name == _CALL]
        self._calls += [_below(event) for event in calls[1:]]  # the first one pays for the start of the profiler

    def operators(self, call_s: float) -> list[OperatorTime]:
        """See `Profiler`; of each operator what it takes in the quieter calls."""
        last = self._calls[-1]
        alike = [call for call in self._calls if [event.name for event in call] == [event.name for event in last]]
        event_s = _event_s()
        operator_times = []
        for index, event in enumerate(last):
            seconds = float(np.quantile([call[index].seconds for call in alike], QUIET))
            if not event.name.startswith(_FREE):
                net_seconds = max(LEAST * seconds, seconds - (event.inside + 0.5) * event_s)
                operator_times.append(_operator(event, net_seconds, self._precision))
        return operator_times


class _Event:
    """An operator of one call: its name, shapes, seconds, module, and the events inside it."""

    def __init__(self, event: Any, module: str) -> None:
        self.name, self.module = str(event.name), module
        self.shapes = [list(shape) for shape in event.input_shapes or []]
        self.seconds = event.time_range.elapsed_us() * 1e-6
        self.inside = _count(event)


def _count(event: Any) -> int:
    return sum(1 + _count(child) for child in event.cpu_children)


def _below(event: Any, module: str = "") -> list[_Event]:
    """The operators that a call dispatches, the outermost of each."""
    events: list[_Event] = []
    for child in sorted(event.cpu_children, key=lambda child_event: child_event.time_range.start):
        if child.name.startswith(_LAYER):
            events += _below(child, child.name.removeprefix(_LAYER))
        elif child.name.startswith(_OPERATORS) or "cpp_fused" in child.name:
            events.append(_Event(child, module))
        else:
            events += _below(child, module)  # a frame of the compiler around what it compiled
    return events


@functools.cache
def _event_s() -> float:
    """Seconds that the profiler takes to note an operator: of many small ones, what they take longer with it."""
    from torch.profiler import ProfilerActivity, profile

    def run() -> float:
        before = time.perf_counter()
        for _ in range(_SMALL):
            tensor.neg()
        return (time.perf_counter() - before) / _SMALL

    tensor = torch.zeros(1)
    plain = min(run() for _ in range(10))
    with descriptors_closed(), profile(activities=[ProfilerActivity.CPU], record_shapes=True):
        profiled = min(run() for _ in range(10))
    return max(0.0, profiled - plain)


def _marked(network: nn.Module) -> list[Any]:
    """Hooks that mark the modules without parts in a profile."""
    handles: list[Any] = []
    for name, module in network.named_modules():
        if list(module.children()):
            continue
        marks: list[Any] = []

        def begin(_module: nn.Module, _inputs: Any, name: str = name, marks: list[Any] = marks) -> None:
            mark = torch.profiler.record_function(_LAYER + name)
            mark.__enter__()  # type: ignore[no-untyped-call]  # of torch
            marks.append(mark)

        def end(_module: nn.Module, _inputs: Any, _output: Any, marks: list[Any] = marks) -> None:
            marks.pop().__exit__(None, None, None)

        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    return handles


_KINDS: Mapping[str, str] = {"aten::": "", "mkldnn::_": "mkldnn ", "mkl::_": "mkl ", "onednn::": "onednn "}


def _operator(event: _Event, seconds: float, precision: str) -> OperatorTime:
    kind = event.name
    for prefix, short_prefix in _KINDS.items():
        if kind.startswith(prefix):
            kind = short_prefix + kind.removeprefix(prefix)
    shapes = [shape for shape in event.shapes if len(shape) > 1]
    integer = kind.startswith(("onednn q", "quantized"))
    computes = "int8" if integer else "fp32" if precision == "int8" else precision
    channels, moved_numbers = None, sum(math.prod(shape) for shape in shapes) + _largest(shapes)
    if is_product(kind) and len(shapes) > 1:
        input_shape, weight_shape = shapes[0], shapes[1] if "conv" in kind else shapes[-1]
        if "conv" in kind:
            channels = weight_shape[1], weight_shape[0]
        else:
            channels = input_shape[-1], weight_shape[0] if weight_shape[-1] == input_shape[-1] else weight_shape[-1]
        output_size = (
            math.prod(input_shape) // input_shape[1 if "conv" in kind else -1] * channels[1]
        )  # as with a stride of one
        moved_numbers = math.prod(input_shape) + math.prod(weight_shape) + output_size
    size = 1 if integer else 2 if computes == "bf16" else 4
    return OperatorTime(
        name=event.module or event.name,
        kind=kind,
        seconds=seconds,
        precision=computes,
        cast="quantize" in kind and "cpp_fused" in kind,
        parts=(event.module,) if event.module else (),
        bytes=moved_numbers * size if shapes else None,
        channels=channels,
    )


def _largest(shapes: list[list[int]]) -> int:
    return max((math.prod(shape) for shape in shapes), default=0)
