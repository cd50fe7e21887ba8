"""Examples with their targets, as they are stored, and as a network takes them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nasbench.data.on_disk import CHUNK_BYTES, OnDisk

Stored = torch.Tensor | OnDisk
"""(n, ...) numbers, in memory or on disk."""
Inputs = torch.Tensor | tuple[torch.Tensor, ...]
"""Inputs of a network: a tensor, or several in order."""

IMAGES = 4  # axes of a batch of images
LEAST_STD = 1e-6
"""In place of smaller deviations."""


@dataclass(frozen=True)
class Scale:
    """How stored numbers become what a network takes: (stored / white - mean) / std, for each channel or column.

    Attributes:
        mean: Mean of each channel, in units in which `white` is 1.
        std: Standard deviation of each channel, likewise.
        white: Stored number that counts as 1, such as 255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: float = 1.0

    def __call__(self, stored: torch.Tensor) -> torch.Tensor:
        """(n, channels, ...) float32 of stored numbers of any type, on the same device."""
        shape = (-1, *[1] * (stored.ndim - 2))
        factor = torch.tensor([1 / (self.white * std) for std in self.std], device=stored.device).reshape(shape)
        shift = torch.tensor([-mean / std for mean, std in zip(self.mean, self.std, strict=True)], device=stored.device)
        return stored.float() * factor + shift.reshape(shape)

    def back(self, values: torch.Tensor) -> torch.Tensor:
        """Numbers as they were stored, from what `__call__` gave, in float32."""
        shape = (-1, *[1] * (values.ndim - 2))
        std, mean = (
            torch.tensor(statistic, device=values.device).reshape(shape) for statistic in (self.std, self.mean)
        )
        return (values.float() * std + mean) * self.white


@dataclass(frozen=True)
class Split:
    """Examples with targets. Images stay bytes, and large ones stay on disk, until a batch of them is taken.

    Pickled as NumPy arrays: in Ray's object store these lie once per machine, and every worker reads the same memory.

    Attributes:
        inputs: Inputs of the network (n, ...), as they are stored.
        targets: Targets: (n,) int64 classes, (n, height, width) int64 classes of pixels, or (n, k) float32 values.
        scales: Scale of each input; None leaves it as it is stored. Without any, none is scaled.
    """

    inputs: tuple[Stored, ...]
    targets: torch.Tensor
    scales: tuple[Scale | None, ...] = field(default=())

    def __init__(
        self, inputs: Stored | Sequence[Stored], targets: torch.Tensor, scales: Sequence[Scale | None] = ()
    ) -> None:
        several = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
        object.__setattr__(self, "inputs", several)
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "scales", tuple(scales) or (None,) * len(several))

    def __reduce__(self) -> tuple[Any, ...]:
        stored = [tensor.numpy() if isinstance(tensor, torch.Tensor) else tensor for tensor in self.inputs]
        return _split, (stored, self.targets.numpy(), self.scales)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def holds_images(self) -> bool:
        """Whether the inputs are images, (n, channels, height, width)."""
        return len(self.inputs) == 1 and self.inputs[0].ndim == IMAGES

    def take(self, rows: slice | torch.Tensor) -> tuple[Inputs, torch.Tensor]:
        """Some examples as a network takes them, with their targets, on the device of the stored tensors."""
        return self.scaled([stored[rows] for stored in self.inputs]), self.targets[rows]

    def scaled(self, stored: Sequence[torch.Tensor]) -> Inputs:
        """Stored numbers as a network takes them."""
        tensors = tuple(
            tensor if scale is None else scale(tensor) for tensor, scale in zip(stored, self.scales, strict=True)
        )
        return tensors[0] if len(tensors) == 1 else tensors

    def batches(self, size: int) -> Iterator[tuple[Inputs, torch.Tensor]]:
        """All examples in order, so many at a time."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))

    @property
    def examples(self) -> Inputs:
        """All inputs as a network takes them, in memory."""
        return self.take(slice(None))[0]

    @property
    def images(self) -> Inputs:
        """The examples, where they are images: (n, channels, height, width) float32."""
        return self.examples

    @property
    def labels(self) -> torch.Tensor:
        """The targets, where they are classes: (n,) int64."""
        return self.targets

    def some(self, count: int | None, seed: int) -> Split:
        """So many examples by chance, for those of a data set may lie in the order of their classes; None is all."""
        if count is None or count >= len(self):
            return self
        return self.rows(torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count])

    def rows(self, rows: slice | torch.Tensor) -> Split:
        """A split of some examples, which are in memory then."""
        return Split([stored[rows] for stored in self.inputs], self.targets[rows], self.scales)

    def on(self, device: torch.device) -> Split:
        """The same on a device; what lies on disk stays there, and its batches go to the device one by one."""
        stored = [tensor.to(device) if isinstance(tensor, torch.Tensor) else tensor for tensor in self.inputs]
        return Split(stored, self.targets.to(device), self.scales)

    def scaled_by(self, scales: Sequence[Scale | None]) -> Split:
        """The same examples for a network that knows them scaled otherwise."""
        return replace(self, scales=tuple(scales))


def _split(
    inputs: Sequence[npt.NDArray[Any] | OnDisk], targets: npt.NDArray[Any], scales: Sequence[Scale | None]
) -> Split:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes
        stored = [torch.from_numpy(array) if isinstance(array, np.ndarray) else array for array in inputs]
        return Split(stored, torch.from_numpy(targets), scales)


def chunks(stored: Stored) -> Iterator[torch.Tensor]:
    """The rows of an array a few megabytes at a time."""
    row_bytes = max(1, stored.dtype.itemsize * int(np.prod(stored.shape[1:])))
    step = max(1, CHUNK_BYTES // row_bytes)
    for start in range(0, len(stored), step):
        yield stored[start : start + step]


def measured_scale(stored: Stored, white: float = 1.0) -> Scale:
    """The mean and the deviation of each channel of (n, channels, ...) numbers; a channel of one value has a deviation.

    Bytes are added up exactly, so that no order of the rows gives another scale; others in float64, in two
    passes. All of it a chunk at a time; of encoded images, from some of them.
    """
    stored = stored.representative() if isinstance(stored, OnDisk) else stored
    axes = [axis for axis in range(stored.ndim) if axis != 1]
    count = len(stored) * int(np.prod(stored.shape[2:]))
    if stored.dtype == torch.uint8:
        sums = torch.zeros(2, stored.shape[1], dtype=torch.int64)
        for chunk in chunks(stored):
            values = chunk.long()
            sums += torch.stack([values.sum(axes), values.square().sum(axes)])
        pairs = [(first / (count * white), count * second - first**2) for first, second in sums.T.tolist()]
        deviations = [max(math.sqrt(spread) / (count * white), LEAST_STD) for _, spread in pairs]
        return Scale(tuple(middle for middle, _ in pairs), tuple(deviations), white)
    total = torch.zeros(stored.shape[1], dtype=torch.float64)
    for chunk in chunks(stored):
        total += chunk.double().sum(axes)
    mean = total / (count * white)
    squares = torch.zeros_like(mean)
    middle = mean.reshape(-1, *[1] * (stored.ndim - 2))
    for chunk in chunks(stored):
        squares += (chunk.double() / white - middle).square().sum(axes)
    std = (squares / count).sqrt().clamp(min=LEAST_STD)
    return Scale(tuple(mean.tolist()), tuple(std.tolist()), white)
