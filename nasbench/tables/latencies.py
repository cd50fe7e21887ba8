"""Latencies of all cells of NAS-Bench-201 on 19 devices (Lee et al. 2021, arXiv 2106.08630).

One file a device, a list of milliseconds in the order of NAS-Bench-201. The suffix of a name is the batch size
(`titan_rtx_256`); a name without one is batch 1. Some devices were timed in whole milliseconds, and a few entries are
far off from those of equal cells; nothing is corrected here.
"""

from __future__ import annotations

import functools
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasbench.tables.sources import SOURCES
from nasbench_registry import UserError, one_of
from search_spaces import Architecture

Vector = npt.NDArray[np.float64]

SOURCE = SOURCES["latency_nasbench201"]
CELLS = "str_arch2idx.pt"
DEVICES = tuple(file.name.removesuffix(".pt") for file in SOURCE.files if file.name != CELLS)


@functools.lru_cache(maxsize=1)
def latency_cells() -> tuple[Architecture, ...]:
    """All 15,625 cells, in the order of `device_latencies`; kept in memory.

    Raises:
        UserError: The data are not at hand, or are not what was published.
    """
    from search_spaces.nasbench201 import NASBench201

    space = NASBench201()
    rows: dict[str, int] = _read(CELLS)
    return tuple(space.parse(text) for text, _ in sorted(rows.items(), key=lambda item: item[1]))


@functools.lru_cache(maxsize=len(DEVICES))
def device_latencies(device: str) -> Vector:
    """(15625,) latencies in milliseconds; not writable, kept in memory.

    Raises:
        UserError: There is no such device, or its data are not at hand or not what was published.
    """
    values = np.array(_read(f"{one_of('device', device, DEVICES)}.pt"), dtype=np.float64)
    values.setflags(write=False)
    return values


def require_latencies() -> Path:
    """The data folder that has the files; UserError if none has all of them."""
    folder = SOURCE.found()
    if folder is None:
        raise UserError(str(SOURCE.why_unavailable()))
    return folder


def _read(name: str) -> Any:
    path = require_latencies() / SOURCE.folder / name
    content = path.read_bytes()
    expected = next(file.sha256 for file in SOURCE.files if file.name == name)
    if hashlib.sha256(content).hexdigest() != expected:
        raise UserError(f"{path} does not hold the published numbers; run: nasbench data fetch {SOURCE.name}.")
    import torch

    return torch.load(io.BytesIO(content), weights_only=True)


class NewDevice:
    """A device of the table that is measured as if it were new: every lookup is a measurement, and is counted.

    Args:
        name: Name of the device.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._latency_ms = device_latencies(name)
        self.measured: dict[int, float] = {}

    def measure(self, rows: npt.ArrayLike) -> Vector:
        """(k,) milliseconds of the cells in these rows; a cell that is asked for again is counted once."""
        for row in np.asarray(rows, dtype=np.int64).tolist():
            self.measured[row] = float(self._latency_ms[row])
        return self._latency_ms[np.asarray(rows, dtype=np.int64)]

    @property
    def measurements(self) -> int:
        """How many different cells were measured."""
        return len(self.measured)
