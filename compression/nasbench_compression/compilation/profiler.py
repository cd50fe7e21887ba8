"""Time of each operator, measured by the profiler of a runtime."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from nasbench_registry import UserError

QUIET = 0.25
"""Quantile at which times of calls are read: other work only slows a call down, so quiet calls show its own time."""
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
"""Bytes of a number, by the precision in which an operator computes."""


class NoProfiler(UserError):
    """A runtime cannot say how long its operators take; the message is why not."""


@dataclass(frozen=True, kw_only=True)
class OperatorTime:
    """One operator of a compiled network, as the runtime runs it.

    Attributes:
        name: Name in the runtime's graph.
        kind: Kind in the words of the runtime, such as Conv or QLinearConv.
        seconds: Seconds that it takes in one call of the network.
        precision: Precision in which it computes: fp32, bf16, fp16 or int8.
        cast: Whether it only changes types or scales: a quantization, a dequantization, a cast.
        reorder: Whether it only moves data to another layout.
        parts: Names of the operators of the network as it was given to the runtime that are computed in this one, the
            one that multiplies first; empty where the runtime does not say.
        macs: Multiply-adds that it executes, padded channels included; None where it is no product of matrices.
        bytes: Bytes that it reads and writes, weights included; None where the runtime does not say.
        channels: Input channels of each group of a convolution or of a product, and output channels, as it is executed.
    """

    name: str
    kind: str
    seconds: float
    precision: str = "fp32"
    cast: bool = False
    reorder: bool = False
    parts: tuple[str, ...] = ()
    macs: int | None = None
    bytes: int | None = None
    channels: tuple[int, int] | None = None


class Profiler(ABC):
    """A compiled model under the profiler of its runtime, on one batch of images."""

    @abstractmethod
    def __call__(self) -> None:
        """Run it, once or a few times."""

    @abstractmethod
    def operators(self, call_s: float) -> list[OperatorTime]:
        """Times of the operators over all calls, in the order in which they run; the profiler is closed.

        Args:
            call_s: Seconds of a call without the profiler: the quantile `QUIET` of calls that took turns with profiled
                ones.
        """


def product_macs(
    kind: str, input_shape: Sequence[int], weight_shape: Sequence[int], output_shape: Sequence[int]
) -> int | None:
    """Multiply-adds of a convolution or a product of matrices; None for anything else.

    Args:
        kind: Kind of the operator, in the words of any runtime.
        input_shape: Shape of its input.
        weight_shape: Shape of its weight: (out, in / groups, ...) of a convolution, any shape of a product.
        output_shape: Shape of its output.
    """
    kind_name = kind.lower()
    if "conv" in kind_name and "transpose" in kind_name:
        return math.prod(input_shape) * math.prod(weight_shape[1:])
    if "conv" in kind_name:
        return math.prod(output_shape) * math.prod(weight_shape[1:])
    if is_product(kind) and input_shape:
        return math.prod(output_shape) * input_shape[-1]
    return None


def is_product(kind: str) -> bool:
    """Whether an operator multiplies matrices, as a convolution does."""
    return _PRODUCT.search(kind.lower()) is not None


_PRODUCT = re.compile(r"conv|gemm|matmul|fullyconnected|attention|mm\b|(?<!quantize)linear(_pointwise|_dynamic\w*)?$")
