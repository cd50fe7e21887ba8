"""A block module of the zoo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from nasbench_registry import UserError


@dataclass(frozen=True)
class Block:
    """A kind of layer for chains, by name in `BLOCKS`; calling it makes a module with fresh weights.

    The module maps (n, inputs, h, w) to (n, outputs, ceil(h/stride), ceil(w/stride)), for all h and w from 1.

    Attributes:
        make: Function ``make(inputs, outputs, *, kernel, stride)``; without `kernel` if `has_kernel` is false.
        summary: One line for a listing.
        source: Paper of the block.
        has_kernel: Whether its kernel size can be chosen; if not, `kernel` is ignored.
        reshapes: Whether it can change the width and the resolution.
    """

    make: Callable[..., nn.Module]
    summary: str
    source: str
    has_kernel: bool = True
    reshapes: bool = True

    def __call__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Module:
        """The block for these widths.

        Raises:
            UserError: A number that it cannot have.
        """
        if not self.reshapes and (inputs != outputs or stride != 1):
            raise UserError(
                f"this block ({self.summary}) cannot go from {inputs} to {outputs} channels with stride {stride}."
            )
        if not self.has_kernel:
            return self.make(inputs, outputs, stride=stride)
        if kernel % 2 == 0 or kernel < 1:
            raise UserError(f"kernel {kernel} is even; blocks keep the image centred, so use 1, 3, 5 or 7.")
        return self.make(inputs, outputs, kernel=kernel, stride=stride)
