"""An array that stays on disk, of which a batch is read at a time."""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

KEPT_BYTES = 256 * 2**20
"""Of the file, at most so much counts as memory of this process before its pages are given back to the system."""


class MappedArray:
    """Rows of a file of numbers; what was read is given back, so that a process stays small however large the file is.

    It travels to other processes by its path; they have to see the same file.

    Args:
        file: whose bytes from `offset` on are the numbers, in C order.
        dtype: of the numbers, as NumPy calls it.
        shape: (n, ...).
        offset: of the first number, in bytes.
        chosen: the numbers of the rows that belong to it, in order; None is all.
    """

    def __init__(
        self,
        file: Path,
        dtype: str,
        shape: tuple[int, ...],
        offset: int = 0,
        chosen: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.file, self.numpy_dtype, self._whole, self.offset = Path(file), dtype, tuple(shape), offset
        self._chosen = chosen
        self._array = np.memmap(self.file, dtype, "r", offset, self._whole)
        self._row_bytes = self._array.nbytes // max(1, len(self._array))
        self._touched = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...)."""
        return (self._whole[0] if self._chosen is None else len(self._chosen), *self._whole[1:])

    def subset(self, rows: npt.NDArray[np.int64]) -> MappedArray:
        """Some of its rows, still on disk."""
        chosen = rows if self._chosen is None else self._chosen[rows]
        return MappedArray(self.file, self.numpy_dtype, self._whole, self.offset, chosen)

    @classmethod
    def open(cls, file: Path) -> MappedArray:
        """The array in a file that `numpy.save` wrote."""
        array = np.load(file, mmap_mode="r")
        return cls(file, array.dtype.str, array.shape, array.offset)

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedArray, (self.file, self.numpy_dtype, self._whole, self.offset, self._chosen)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes, that of the rows included."""
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the tensors that come out."""
        return torch.from_numpy(np.empty(0, self._array.dtype)).dtype

    def __getitem__(self, rows: slice | torch.Tensor) -> torch.Tensor:
        """A copy of some rows, in memory."""
        picked: npt.NDArray[Any] | slice = rows if isinstance(rows, slice) else rows.cpu().numpy()
        if self._chosen is not None:
            picked = self._chosen[picked]
        copied = np.array(self._array[picked])
        # A page of the file is read as a whole, and the system may read a few around it.
        self._touched += max(self._row_bytes, mmap.PAGESIZE) * len(copied)
        if self._touched > KEPT_BYTES:
            self.release()
        return torch.from_numpy(copied)

    def release(self) -> None:
        """Give pages that were read back to the system, which may keep them cached; nothing is lost."""
        self._touched = 0
        with contextlib.suppress(AttributeError, OSError):  # a system without madvise does it by itself
            self._array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]  # NumPy does not annotate it
