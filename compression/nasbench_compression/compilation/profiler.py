"""Time by operator, as the profiler of a runtime tells it."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from nasbench_registry import UserError

QUIET = 0.25
"""What calls are read at, of all: other work only slows a call down, so the quieter ones show what it takes itself."""
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
"""Of a number, by what an operator computes in."""


class NoProfiler(UserError):
    """A runtime cannot say how long its operators take; the message is why not."""


@dataclass(frozen=True, kw_only=True)
class OperatorTime:
    """One operator of a compiled network, as the runtime runs it.

    Attributes:
        name: in the runtime's graph.
        kind: in the words of the runtime, such as Conv or QLinearConv.
        seconds: of one call of the network.
        precision: that it computes in: fp32, bf16, fp16 or int8.
        cast: whether it only changes types or scales: a quantization, a dequantization, a cast.
        reorder: whether it only moves data to another layout.
        parts: names of the operators of the network as it was given to the runtime that are computed in this one, the
            one that multiplies first; empty where the runtime does not tell.
        macs: multiply-adds that it executes, padded channels included; None where it is no product of matrices.
        bytes: that it reads and writes, weights included; None where the runtime does not tell.
        channels: into each group of a convolution or into a product, and out of it, as it is executed.
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
        """What the calls told, in the order in which operators run; the profiler is closed.

        Args:
            call_s: seconds of a call without the profiler, at `QUIET` of those made in turn with those under it.
        """


def product_macs(kind: str, given: Sequence[int], weight: Sequence[int], made: Sequence[int]) -> int | None:
    """Multiply-adds of a convolution or a product of matrices; None for anything else.

    Args:
        kind: the operator, in the words of any runtime.
        given: shape of its input.
        weight: shape of its weight: (out, in / groups, ...) of a convolution, whatever of a product.
        made: shape of its output.
    """
    told = kind.lower()
    if "conv" in told and "transpose" in told:
        return math.prod(given) * math.prod(weight[1:])
    if "conv" in told:
        return math.prod(made) * math.prod(weight[1:])
    if is_product(kind) and given:
        return math.prod(made) * given[-1]
    return None


def is_product(kind: str) -> bool:
    """Whether an operator multiplies matrices, as a convolution does."""
    return _PRODUCT.search(kind.lower()) is not None


_PRODUCT = re.compile(r"conv|gemm|matmul|fullyconnected|attention|mm\b|(?<!quantize)linear(_pointwise|_dynamic\w*)?$")
