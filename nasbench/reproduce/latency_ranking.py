"""Rank correlations of predictors of latency on a device that they have hardly seen (Lee et al. 2021, HELP).

A predictor knows some devices on a pool of cells, measures a few cells of that pool on a new device, and ranks other
cells. What it measures it has to choose without the latencies of the new device, and all that it measures counts.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from nasbench.costs.cost import counts
from nasbench.latency.predictors.contract import standardized
from nasbench.latency.transfer import TransferPredictor
from nasbench.tables.latencies import NewDevice, device_latencies, latency_cells
from nasbench_registry import UserError, check_options, one_of
from search_spaces import Task
from search_spaces.nasbench201 import NASBench201

Vector = npt.NDArray[np.float64]

CHOICES = ("suggested", "random")
CELLS = ("pool", "all")


@dataclass(frozen=True)
class RankingTask:
    """The devices, the cells and the seed that a predictor gets.

    Attributes:
        known_devices: Devices whose latencies are known.
        pool: Number of cells that may be measured, from cell 0 on.
        seed: Random seed of all random choices.
    """

    known_devices: tuple[str, ...]
    pool: int
    seed: int


@dataclass(frozen=True)
class Ranked:
    """A prediction of all cells for one device.

    Attributes:
        latency: (15625,) latencies in any unit that grows with latency.
        adapt_s: Seconds from the measurements to a predictor.
        predict_s: Seconds for the prediction of all cells.
    """

    latency: Vector
    adapt_s: float
    predict_s: float


class RankingMethod(Protocol):
    """A dataclass whose fields are the options of a row."""

    def rank(self, task: RankingTask, devices: Sequence[NewDevice]) -> Iterable[Ranked]:
        """A prediction for each device; UserError if an option has a value that is not allowed."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """`TransferPredictor`.

    Attributes:
        measurements: Number of cells of the pool that are measured on a new device.
        choice: Choice of these cells: "suggested" by the predictor, or "random".
        known_cells: Cells on which the known devices were measured: the "pool" or "all".
        known_devices: Number of devices, the first of those of the task; None for all.
    """

    name: ClassVar[str] = "transfer"
    measurements: int = 10
    choice: str = "suggested"
    known_cells: str = "pool"
    known_devices: int | None = None

    def rank(self, task: RankingTask, devices: Sequence[NewDevice]) -> Iterable[Ranked]:
        """See `RankingMethod`."""
        cells = latency_cells()
        known_count = len(cells) if self.known_cells == "all" else task.pool
        task = replace(task, known_devices=task.known_devices[: self.known_devices])
        predictor, rows = suggested(task, known_count, self.measurements)
        if self.choice == "random":
            rows = drawn(task, self.measurements)
        for device in devices:
            measured = device.measure(rows)
            started = time.perf_counter()
            predictor.adapt([cells[row] for row in rows], measured)
            adapted = time.perf_counter()
            latency, _ = predictor.predict(cells)
            yield Ranked(latency, adapted - started, time.perf_counter() - adapted)


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """A ridge regression of log latency on principal components of the known devices and counts of operations.

    The components are those of the known devices' log latencies of all cells, so that all cells must have been measured
    on them.

    Attributes:
        components: Number of principal components.
        penalty: Penalty of squared weights; all columns have the deviation 1.
        measurements: Number of measured cells, see `Transfer`.
        choice: Choice of these cells, see `Transfer`.
    """

    name: ClassVar[str] = "ridge"
    components: int = 3
    penalty: float = 3.0
    measurements: int = 10
    choice: str = "suggested"

    def rank(self, task: RankingTask, devices: Sequence[NewDevice]) -> Iterable[Ranked]:
        """See `RankingMethod`."""
        cells = latency_cells()
        space = NASBench201()
        logs = np.stack([log_latency(device_latencies(name)) for name in task.known_devices], axis=1)
        known_logs = standardized(logs, logs)
        _, _, directions = np.linalg.svd(known_logs[: task.pool], full_matrices=False)
        columns = np.hstack([known_logs @ directions[: self.components].T, space.option_counts(cells)])
        columns = standardized(columns, columns)
        if self.choice == "random":
            rows = drawn(task, self.measurements)
        else:
            _, rows = suggested(task, task.pool, self.measurements)
        for device in devices:
            measured = log_latency(device.measure(rows))
            started = time.perf_counter()
            middle = columns[rows].mean(axis=0)
            seen = columns[rows] - middle
            inner = seen.T @ seen + self.penalty * np.eye(seen.shape[1])
            weights = np.linalg.solve(inner, seen.T @ (measured - measured.mean()))
            adapted = time.perf_counter()
            latency = (columns - middle) @ weights
            yield Ranked(latency, adapted - started, time.perf_counter() - adapted)


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Multiply-adds, which know nothing of the device."""

    name: ClassVar[str] = "flops"

    def rank(self, task: RankingTask, devices: Sequence[NewDevice]) -> Iterable[Ranked]:
        """See `RankingMethod`."""
        for _ in devices:
            started = time.perf_counter()
            yield Ranked(cell_macs(), 0.0, time.perf_counter() - started)


METHODS: dict[str, type[Transfer] | type[Ridge] | type[Flops]] = {
    method.name: method for method in (Transfer, Ridge, Flops)
}


def ranking_method(method: Mapping[str, Any]) -> RankingMethod:
    """The method of a row from its name and options; UserError if one of them does not exist or is not allowed."""
    options = {key: value for key, value in method.items() if key != "name"}
    kind = METHODS[one_of("method", str(method["name"]), METHODS)]
    check_options(kind, options, what=f"method {kind.name!r}")
    ranking = kind(**options)
    if not isinstance(ranking, Flops):
        one_of("choice", ranking.choice, CHOICES)
        if ranking.measurements < 1:
            raise UserError(f"measurements={ranking.measurements} of method {kind.name!r} must be 1 or more.")
    if isinstance(ranking, Transfer):
        one_of("known_cells", ranking.known_cells, CELLS)
    return ranking


@functools.lru_cache(maxsize=1)
def suggested(task: RankingTask, known_cells: int, count: int) -> tuple[TransferPredictor, list[int]]:
    """A predictor that knows the devices of a task on the first `known_cells`, and the rows that it wants measured.

    Its measurements of a new device are replaced by `adapt`, so that it serves one device after the other.
    """
    cells = latency_cells()
    predictor = TransferPredictor(NASBench201(), seed=task.seed)
    latencies = {name: device_latencies(name)[:known_cells] for name in task.known_devices}
    predictor.fit_sources(cells[:known_cells], latencies)
    numbers = cell_rows()
    return predictor, [numbers[arch.picks] for arch in predictor.suggest(count, among=cells[: task.pool])]


def drawn(task: RankingTask, count: int) -> list[int]:
    """Rows of any cells of the pool."""
    rows: list[int] = np.random.default_rng(task.seed).choice(task.pool, count, replace=False).tolist()
    return rows


@functools.cache
def cell_rows() -> dict[tuple[int, ...], int]:
    """The row of each cell by its picks."""
    return {arch.picks: row for row, arch in enumerate(latency_cells())}


@functools.cache
def cell_macs() -> Vector:
    """(15625,) multiply-adds of the networks for CIFAR-10.

    They are those of the network without operations, and so many for each operation on an edge, whichever it is.
    """
    space, task, cells = NASBench201(), Task((3, 32, 32), 10), latency_cells()
    options = len(space.decisions[0].options)
    alone = [space.architecture([0, 0, 0, pick, 0, 0]) for pick in range(options)]  # from input to output
    macs = np.array([counts(space.build(arch, task), task).macs for arch in alone], dtype=np.float64)
    total: Vector = macs[0] + space.option_counts(cells) @ (macs - macs[0])
    return total


def middle_rows(latency_ms: Vector, first: int, last: int, dropped: float) -> npt.NDArray[np.int64]:
    """Rows from `first` to `last` - 1 without the share `dropped` of the fastest and as many of the slowest."""
    order = first + np.argsort(latency_ms[first:last], kind="stable")
    cut = int(len(order) * dropped)
    return np.sort(order[cut : len(order) - cut])


def log_latency(latency_ms: Vector) -> Vector:
    """Logarithms; a latency near zero, which some tables have, counts as a twentieth of the median."""
    logs: Vector = np.log(np.maximum(latency_ms, np.median(latency_ms) / 20))
    return logs
