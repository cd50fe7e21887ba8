"""A device that is a file of latencies, measured elsewhere."""

from __future__ import annotations

import copy
import csv
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import nn

from nasbench.devices.energy import Energy, Meter, NoMeter
from nasbench.devices.measure import Latency
from nasbench.devices.reported import ReportedDevice, reported_latency
from nasbench_compression import CompiledModel
from nasbench_compression.compilation.eager import EagerModel
from nasbench_compression.reparameterization import reparameterize
from nasbench_registry import UserError
from nasbench_registry.files import user_path
from search_spaces import Architecture, SearchSpace, Task

ARCHITECTURE, LATENCY, ENERGY = "architecture", "latency_ms", "energy_mj"


class Cost(NamedTuple):
    """The costs of an architecture in a table.

    Attributes:
        line: Line of the table.
        latency_ms: Milliseconds of one batch.
        energy_mj: Millijoules of one batch; None where the table has none.
    """

    line: int
    latency_ms: float
    energy_mj: float | None = None


class CostTable(Protocol):
    """A table of latencies; hashable, and equal to another that says the same."""

    def costs(self) -> Mapping[str, Cost]:
        """Costs by the architecture as it is written. Raises UserError if the table cannot be read."""

    def __hash__(self) -> int:
        """Equal tables have equal numbers."""


@dataclass(frozen=True)
class CsvTable:
    """A CSV file as it was at a time.

    Attributes:
        path: Path of the file.
        version: Time at which it was changed.
    """

    path: Path
    version: int

    def costs(self) -> Mapping[str, Cost]:
        """See `CostTable`."""
        return _lines(self.path, self.version)


class TableMeter(NoMeter):
    """The meter of a table that has energies: they are looked up."""

    about: ClassVar[str] = "looked up in a table"

    def why_unavailable(self) -> str | None:
        """Nothing is missing."""
        return None


class NotInTable(LookupError):
    """The table has no latency of an architecture."""


@dataclass(frozen=True)
class TableDevice(ReportedDevice):
    """A CSV file with a line for each architecture: `architecture`, in the notation of its space, and `latency_ms`.

    It may have `energy_mj`, too. In place of a file, the name of a published table and its device will do, see
    `nasbench.tables.devices`. A measurement is a lookup. An architecture that is not in the file has the costs of those
    in it that build the same network, their mean if there are several. No other network has a latency here: not what a
    compression step made of one, nor a single operator.

    Attributes:
        file: Name of the CSV file, whose other columns are ignored; or the name of a published table.
        published: Function that finds the table of that name; it gives None for a name that is a file's.
    """

    file: str = ""
    published: Callable[[str], CostTable | None] | None = None

    name: ClassVar[str] = "table"
    summary: ClassVar[str] = "a CSV file with the latency of each architecture"
    times_networks: ClassVar[bool] = False
    order: ClassVar[str] = "looked up"

    def why_unavailable(self) -> str | None:
        """Why the file cannot be read, or None."""
        try:
            self._table.costs()
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
        _networks(self._table, space)

    def known(self, space: SearchSpace) -> Sequence[Architecture]:
        """One architecture for each distinct network of the file, in its order."""
        return [same[0][0] for same in _networks(self._table, space).values()]

    def latency_ms(self, space: SearchSpace, arch: Architecture) -> float:
        """The latency of an architecture in the file.

        Raises:
            NotInTable: Neither the architecture nor one that builds the same network is in the file.
            UserError: The file cannot be read, or a line is not an architecture of this space.
        """
        return self.cost(space, arch).latency_ms

    def cost(self, space: SearchSpace, arch: Architecture) -> Cost:
        """The costs of an architecture in the file; raises as `latency_ms` does."""
        text = space.format(arch)
        written = self._table.costs().get(text)
        if written is not None:
            return written
        same = _networks(self._table, space).get(space.canonical(arch))
        if same is None:
            raise NotInTable(f"{self.file} has no latency of {text}, nor of another architecture of the same network")
        energies = [cost.energy_mj for _, cost in same if cost.energy_mj is not None]
        return Cost(
            same[0][1].line,
            sum(cost.latency_ms for _, cost in same) / len(same),
            sum(energies) / len(energies) if energies else None,
        )

    def candidate(self, space: SearchSpace, arch: Architecture, model: nn.Module, task: Task) -> CompiledModel:
        """The network in eager PyTorch, with the latency that the file has of its architecture.

        Raises:
            NotInTable: It has none.
        """
        cost = self.cost(space, arch)
        return KnownModel(model, cost.latency_ms, cost.energy_mj)

    @property
    def meter(self) -> Meter:
        """None, or the table, if it has energies."""
        try:
            has_energy = any(cost.energy_mj is not None for cost in self._table.costs().values())
        except UserError:
            has_energy = False
        return TableMeter(self.name) if has_energy else super().meter

    def energy(self, compiled: CompiledModel, task: Task, seconds: float = 3.0) -> Energy:
        """The energy of a candidate in the table.

        Raises:
            UserError: It has no energy of it.
        """
        if not isinstance(compiled, KnownModel) or compiled.energy_mj is None:
            raise UserError(f"{self.file} has no energy of this network; leave energy_mj out.")
        value = compiled.energy_mj
        power_w = value / compiled.latency_ms
        return Energy(value, value, value, calls=0, seconds=0.0, power_w=power_w, meter=TableMeter.about)

    def compile(
        self, model: nn.Module, task: Task, precision: str = "fp32", calibration: torch.Tensor | None = None
    ) -> CompiledModel:
        """Impossible without the architecture; UserError."""
        raise UserError(f"{self._only}; give the architecture.")

    def reported(self, compiled: CompiledModel, task: Task) -> Latency:
        """The latency of what `candidate` gave; UserError for anything else."""
        if not isinstance(compiled, KnownModel):
            raise UserError(f"{self._only}; give what candidate() returns.")
        return reported_latency(
            compiled.latency_ms, batch=self.batch, threads=self.threads, runtime="table", device=self.machine
        )

    @property
    def _table(self) -> CostTable:
        named = self.published(self.file) if self.published is not None else None
        if named is not None:
            return named
        path = user_path(self.file)
        try:
            return CsvTable(path, path.stat().st_mtime_ns)
        except OSError:
            raise UserError(f"there is no file {self.file} that can be read; check device.file.") from None


class KnownModel(EagerModel):
    """A network in eager PyTorch whose latency on another device is known.

    Args:
        model: Network, which is copied.
        latency_ms: Milliseconds of one batch on the other device.
        energy_mj: Millijoules of one batch on the other device; None if they are not known.
    """

    def __init__(self, model: nn.Module, latency_ms: float, energy_mj: float | None = None) -> None:
        super().__init__(copy.deepcopy(reparameterize(model)).cpu().eval().requires_grad_(False), "fp32", threads=1)
        self.latency_ms, self.energy_mj = latency_ms, energy_mj


@functools.lru_cache(maxsize=4)
def _lines(path: Path, version: int) -> Mapping[str, Cost]:
    """Costs by the architecture as it is written; UserError that names the line and the value."""
    costs: dict[str, Cost] = {}
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
                if text in costs:
                    raise UserError(
                        f"{path}, line {reader.line_num}: {text!r} is there twice, first in line {costs[text].line}; "
                        f"keep one."
                    )
                energy = row.get(ENERGY)
                costs[text] = Cost(
                    reader.line_num,
                    _positive(value, LATENCY, path, reader.line_num),
                    _positive(energy, ENERGY, path, reader.line_num) if energy else None,
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV file: {error}.") from None
    if not costs:
        raise UserError(f"{path} has no line below its head; write one for each architecture.")
    return costs


UNITS = {LATENCY: "milliseconds", ENERGY: "millijoules"}


def _positive(text: str | None, column: str, path: Path, line: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{path}, line {line}: {column} is {text!r}; write a positive number of {UNITS[column]}.")
    return value


@functools.lru_cache(maxsize=4)
def _networks(table: CostTable, space: SearchSpace) -> Mapping[Architecture, Sequence[tuple[Architecture, Cost]]]:
    """Architectures and costs of each distinct network, which is named by its canonical architecture."""
    networks: dict[Architecture, list[tuple[Architecture, Cost]]] = {}
    for text, cost in table.costs().items():
        try:
            arch = space.parse(text)
        except UserError as error:
            where = f"{table.path}, line {cost.line}: " if isinstance(table, CsvTable) else ""
            raise UserError(f"{where}{error}") from None
        networks.setdefault(space.canonical(arch), []).append((arch, cost))
    return networks
