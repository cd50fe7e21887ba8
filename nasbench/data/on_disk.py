"""Arrays that stay on disk, of which a batch is read at a time."""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from nasbench_registry import UserError

ON_DISK_BYTES = 256 * 2**20
"""From this size on, inputs stay in their file."""
TYPES = {"U8": "|u1", "F32": "<f4"}
"""Types that can stay in the file, as safetensors and NumPy call them."""
CHUNK_BYTES = 2**20
"""At a time, where all rows are read."""

Rows = npt.NDArray[np.int64]


class OnDisk(ABC):
    """Rows of numbers (n, ...) that are read when they are asked for; it travels to other processes without them.

    Args:
        count: Number of all rows that there are.
        row_shape: Shape of one row.
        numpy_dtype: Type of the numbers, as NumPy calls it.
        chosen: Numbers of the rows that belong to it, in order; None is all.
    """

    def __init__(self, count: int, row_shape: tuple[int, ...], numpy_dtype: str, chosen: Rows | None) -> None:
        self._count, self._row_shape, self.numpy_dtype, self._chosen = count, tuple(row_shape), numpy_dtype, chosen

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...)."""
        return (len(self), *self._row_shape)

    @property
    def ndim(self) -> int:
        """Number of axes, that of the rows included."""
        return 1 + len(self._row_shape)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the tensors that come out."""
        return torch.from_numpy(np.empty(0, self.numpy_dtype)).dtype

    def __len__(self) -> int:
        return self._count if self._chosen is None else len(self._chosen)

    def __getitem__(self, rows: slice | torch.Tensor) -> torch.Tensor:
        """Some rows, in memory."""
        picked = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows.cpu().numpy()
        return torch.from_numpy(self._read(picked if self._chosen is None else self._chosen[picked]))

    def subset(self, rows: Rows) -> Self:
        """Some of its rows, still on disk."""
        return self._with(rows if self._chosen is None else self._chosen[rows])

    def representative(self) -> OnDisk:
        """Rows of which mean and deviation are taken: all, in the order in which they are read fastest."""
        return self if self._chosen is None else self._with(np.sort(self._chosen))

    def fingerprint(self) -> Iterator[bytes]:
        """Bytes that are the same only for the same numbers, in parts: here the numbers."""
        step = max(1, CHUNK_BYTES // max(1, int(np.prod(self._row_shape)) * np.dtype(self.numpy_dtype).itemsize))
        for start in range(0, len(self), step):
            yield self[start : start + step].numpy().tobytes()

    @abstractmethod
    def _read(self, rows: Rows) -> npt.NDArray[Any]:
        """These of all rows, (n, ...)."""

    @abstractmethod
    def _with(self, chosen: Rows) -> Self:
        """The same with other rows."""


class FileArray(OnDisk):
    """Rows of one file of numbers.

    It is read and not mapped: pages of a mapped file, and those around them, count as memory of the process.

    Args:
        file: File whose bytes from `offset` on are the numbers, in C order; other processes have to see it, too.
        numpy_dtype: Type of the numbers, as NumPy calls it.
        shape: Shape (n, ...) of the whole file.
        offset: Offset of the first number, in bytes.
        chosen: Numbers of the rows that belong to it, as in `OnDisk`.
    """

    def __init__(
        self, file: Path, numpy_dtype: str, shape: tuple[int, ...], offset: int = 0, chosen: Rows | None = None
    ) -> None:
        super().__init__(shape[0], tuple(shape[1:]), numpy_dtype, chosen)
        self.file, self.offset = Path(file).absolute(), offset

    @classmethod
    def of(cls, mapped: np.memmap[Any, Any]) -> FileArray | None:
        """The file of an array that NumPy maps, as from ``numpy.load(file, mmap_mode="r")``; None of a part of one."""
        base: object = mapped.base
        if not isinstance(base, mmap.mmap) or not mapped.flags.c_contiguous or mapped.filename is None:
            return None
        return cls(Path(mapped.filename), mapped.dtype.str, mapped.shape, mapped.offset)

    def __reduce__(self) -> tuple[Any, ...]:
        return FileArray, (self.file, self.numpy_dtype, (self._count, *self._row_shape), self.offset, self._chosen)

    def _with(self, chosen: Rows) -> FileArray:
        return FileArray(self.file, self.numpy_dtype, (self._count, *self._row_shape), self.offset, chosen)

    def _read(self, rows: Rows) -> npt.NDArray[Any]:
        array = np.empty((len(rows), *self._row_shape), self.numpy_dtype)
        if len(rows) == 0:
            return array
        row_bytes = array[0].nbytes
        with self.file.open("rb", buffering=0) as opened:
            for first, end in _runs(rows):
                opened.seek(self.offset + int(rows[first]) * row_bytes)
                remaining = array[first:end].reshape(-1).view(np.uint8).data
                while remaining:
                    read = opened.readinto(remaining)
                    if not read:
                        raise UserError(
                            f"{self.file} ends before its row {int(rows[first]):,} of {self._count:,} does; it was "
                            f"changed since it was opened, so write it again."
                        )
                    remaining = remaining[read:]
        return array


def _runs(rows: Rows) -> Iterator[tuple[int, int]]:
    """First and end of each part of `rows` whose numbers follow one another."""
    ends = np.append(np.flatnonzero(np.diff(rows) != 1) + 1, len(rows))
    first = 0
    for end in ends.tolist():
        yield first, end
        first = end
