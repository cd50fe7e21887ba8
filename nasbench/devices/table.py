"""A device that is a file of latencies, measured elsewhere."""

from __future__ import annotations

import copy
import csv
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from nasbench.devices.measure import Latency
from nasbench.devices.reported import ToldDevice, told_latency
from nasbench_compression import CompiledModel
from nasbench_compression.compilation.eager import EagerModel
from nasbench_compression.reparameterization import reparameterize
from nasbench_registry import UserError
from nasbench_registry.files import user_path
from search_spaces import Architecture, SearchSpace, Task

ARCHITECTURE, LATENCY = "architecture", "latency_ms"


class NotInTable(LookupError):
    """The table has no latency of an architecture."""


@dataclass(frozen=True)
class TableDevice(ToldDevice):
    """A CSV file with a line for each architecture: `architecture`, in the notation of its space, and `latency_ms`.

    A measurement is a lookup. An architecture that is not in the file has the latency of those in it that build the
    same network, their mean if there are several. No other network has a latency here: not what a compression step
    made of one, nor a single operator.

    Attributes:
        file: the CSV file; other columns are ignored.
    """

    file: str = ""

    name: ClassVar[str] = "table"
    summary: ClassVar[str] = "a CSV file with the latency of each architecture"
    times_networks: ClassVar[bool] = False
    order: ClassVar[str] = "looked up"

    def why_unavailable(self) -> str | None:
        """Why the file cannot be read, or None."""
        try:
            _lines(*self._version)
        except UserError as error:
            return str(error)
        return None

    def why_not(self, compiled: CompiledModel) -> str | None:
        """Only what `candidate` gave has a latency."""
        return None if isinstance(compiled, KnownModel) else self._only

    @property
    def machine(self) -> str:
        """The file."""
        return f"table {self.file}"

    @property
    def _only(self) -> str:
        return f"{self.file} has latencies of architectures as they are searched, and of no other network"

    def check(self, space: SearchSpace) -> None:
        """Raise UserError if a line is not an architecture of this space, or the file cannot be read."""
        _networks(*self._version, space)

    def known(self, space: SearchSpace) -> Sequence[Architecture]:
        """One architecture for each distinct network of the file, in its order."""
        return [same[0][0] for same in _networks(*self._version, space).values()]

    def latency_ms(self, space: SearchSpace, arch: Architecture) -> float:
        """What the file says.

        Raises:
            NotInTable: neither the architecture nor one that builds the same network is in the file.
            UserError: the file cannot be read, or a line is not an architecture of this space.
        """
        text = space.format(arch)
        written = _lines(*self._version).get(text)
        if written is not None:
            return written[1]
        same = _networks(*self._version, space).get(space.canonical(arch))
        if same is None:
            raise NotInTable(f"{self.file} has no latency of {text}, nor of another architecture of the same network")
        return sum(latency for _, latency in same) / len(same)

    def candidate(self, space: SearchSpace, arch: Architecture, model: nn.Module, task: Task) -> CompiledModel:
        """The network in eager PyTorch, with the latency that the file has of its architecture.

        Raises:
            NotInTable: it has none.
        """
        return KnownModel(model, self.latency_ms(space, arch))

    def compile(
        self, model: nn.Module, task: Task, precision: str = "fp32", calibration: torch.Tensor | None = None
    ) -> CompiledModel:
        """Impossible without the architecture; UserError."""
        raise UserError(f"{self._only}; give the architecture.")

    def told(self, compiled: CompiledModel, task: Task) -> Latency:
        """The latency of what `candidate` gave; UserError for anything else."""
        if not isinstance(compiled, KnownModel):
            raise UserError(f"{self._only}; give what candidate() returns.")
        return told_latency(
            compiled.latency_ms, batch=self.batch, threads=self.threads, runtime="table", device=self.machine
        )

    @property
    def _version(self) -> tuple[Path, int]:
        path = user_path(self.file)
        try:
            return path, path.stat().st_mtime_ns
        except OSError:
            raise UserError(f"there is no file {self.file} that can be read; check device.file.") from None


class KnownModel(EagerModel):
    """A network in eager PyTorch whose latency on another device is known.

    Args:
        model: copied.
        latency_ms: of one batch there.
    """

    def __init__(self, model: nn.Module, latency_ms: float) -> None:
        super().__init__(copy.deepcopy(reparameterize(model)).cpu().eval().requires_grad_(False), "fp32", threads=1)
        self.latency_ms = latency_ms


@functools.lru_cache(maxsize=4)
def _lines(path: Path, version: int) -> Mapping[str, tuple[int, float]]:
    """{architecture as it is written: (line, latency in milliseconds)}; UserError that names the line and the value."""
    found: dict[str, tuple[int, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in (ARCHITECTURE, LATENCY) if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{path} has no column {missing[0]!r}, only {', '.join(reader.fieldnames or ()) or 'nothing'}; its "
                    f"first line must name the columns {ARCHITECTURE} and {LATENCY}."
                )
            for row in reader:
                text, value = (row[ARCHITECTURE] or "").strip(), row[LATENCY]
                if text in found:
                    raise UserError(
                        f"{path}, line {reader.line_num}: {text!r} is there twice, first in line {found[text][0]}; "
                        f"keep one."
                    )
                found[text] = reader.line_num, _milliseconds(value, path, reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV file: {error}.") from None
    if not found:
        raise UserError(f"{path} has no line below its head; write one for each architecture.")
    return found


def _milliseconds(text: str | None, path: Path, line: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{path}, line {line}: {LATENCY} is {text!r}; write a positive number of milliseconds.")
    return value


@functools.lru_cache(maxsize=4)
def _networks(
    path: Path, version: int, space: SearchSpace
) -> Mapping[Architecture, Sequence[tuple[Architecture, float]]]:
    """Architectures and latencies of each distinct network, which is named by its canonical architecture."""
    networks: dict[Architecture, list[tuple[Architecture, float]]] = {}
    for text, (line, latency) in _lines(path, version).items():
        try:
            arch = space.parse(text)
        except UserError as error:
            raise UserError(f"{path}, line {line}: {error}") from None
        networks.setdefault(space.canonical(arch), []).append((arch, latency))
    return networks
