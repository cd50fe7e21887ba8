"""Run the searches behind a table of a paper, and put their results beside what the paper prints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from nasbench.evaluators.tabular import Tabular
from nasbench.objectives.statistics import mean_ratio_interval
from nasbench.reproduce.front_rows import PRECISIONS, accuracy_over_latency
from nasbench.reproduce.hypervolume_rows import front_method, measure_fronts
from nasbench.reproduce.latency_tables import check_method, measure_row
from nasbench.reproduce.parallel import run_all
from nasbench.reproduce.replay_rows import measure_replays, replay_method
from nasbench.reproduce.simulate import Trace, simulate
from nasbench.reproduce.trained_rows import check_row, measured_row, trains
from nasbench.reproduce.zero_cost_rows import check_protocol, rank_cells
from nasbench.tables.paper_table import SEARCHED, PaperTable, Row, TableColumn, first_cells, make_controller
from nasbench.tables.protocols import (
    BestOfQueries,
    ElasticFront,
    Hypervolume,
    JointReplay,
    Queries,
    TimeBudget,
    ZeroCostRanking,
)
from nasbench.tables.registry import load_table
from nasbench.tables.reproduction import BAND, Curve, Entry, Reproduction
from nasbench_registry import UserError

Vector = npt.NDArray[np.float64]
POINTS = 160  # number of points of a curve


@dataclass(frozen=True)
class _Job:
    """Some seeds of a row, on one data set and budget; the columns that are read from them; the folder of results."""

    table: PaperTable
    row: Row
    columns: tuple[TableColumn, ...]
    seeds: range
    keep: Path | None = None


@dataclass(frozen=True)
class _Done:
    job: _Job
    values: dict[str, list[float]]
    curves: dict[str, Vector]
    stopped: int
    seconds: float


def reproduce(
    table: PaperTable,
    *,
    seeds: int | None = None,
    rows: Sequence[Row] | None = None,
    workers: int = 1,
    keep: Path | None = None,
    cells: int | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Reproduction:
    """Run every row of a table, with the seeds 0, 1, ...; the same seeds give the same numbers with any workers.

    Args:
        table: Table to reproduce.
        seeds: Number of searches of a row; without it, as many as the table says.
        rows: Rows of the table; all without it.
        workers: Number of processes; with one, everything happens in this one.
        keep: Folder in which each seed of a row is stored as soon as it is done, and read again by a later call with
            the same request; only for tables whose rows train networks or evaluate untrained ones.
        cells: Size of the sample of a table of proxies; without it, as many as the table says.
        on_progress: Function that is called with (row, searches done, all searches).

    Raises:
        UserError: the data are missing, or a controller, a method or an option of a row does not exist.
    """
    started = time.perf_counter()
    count = seeds or table.seeds
    chosen = table.rows if rows is None else rows
    if isinstance(table.protocol, ZeroCostRanking):
        check_protocol(table, seeds)
        return rank_cells(table, chosen, cells=cells, workers=workers, keep=keep, on_progress=on_progress)
    if cells is not None:
        raise UserError(f"table {table.name!r} takes no sample of cells; leave out --cells.")
    if keep is not None and not trains(table) and not isinstance(table.protocol, Hypervolume | JointReplay):
        raise UserError(f"table {table.name!r} has nothing that would have to be kept; leave out --run.")
    optima = _optima(table) if _searched(table) else {}
    if isinstance(table.protocol, JointReplay):
        optima = {column.name: 1.0 for column in table.columns if column.shows == "area"}
    for row in chosen:
        if row.controller is not None:
            make_controller(row, table.benchmark, 0)
        elif row.method is not None:
            if trains(table):
                check_row(table, row)
            elif isinstance(table.protocol, Hypervolume):
                front_method(row.method)
            elif isinstance(table.protocol, JointReplay):
                replay_method(row.method)
            else:
                check_method(table, row)
    jobs = [job for row in chosen if row.reason is None for job in _jobs(table, row, count, workers, keep)]
    total, done = sum(len(job.seeds) for job in jobs), 0
    results: list[_Done] = []
    for result in run_all(_run, jobs, workers):
        results.append(result)
        done += len(result.job.seeds)
        if on_progress is not None:
            on_progress(result.job.row.name, done, total)
    results.sort(key=lambda result: result.job.seeds.start)
    entries: list[Entry] = []
    curves = {}
    for row in chosen:
        for column in table.columns:
            parts = [result for result in results if result.job.row.name == row.name and column.name in result.values]
            entries.append(_cell(table, row, column, parts))
            if parts and column.name in parts[0].curves:
                curves[row.name, column.name] = _curve(table, row, column, parts)
    if isinstance(table.protocol, Hypervolume | JointReplay | ElasticFront):
        entries = _beside_first(table, chosen, entries, results)
    return Reproduction(table, count, tuple(entries), curves, optima, time.perf_counter() - started)


def _searched(table: PaperTable) -> bool:
    return isinstance(table.protocol, SEARCHED)


def _optima(table: PaperTable) -> dict[str, float]:
    benchmark = load_table(table.benchmark)
    return {
        column.name: float(benchmark.column(dataset=column.read_dataset, split="test", epochs=200).max())
        for column in table.columns
    }


def _jobs(table: PaperTable, row: Row, seeds: int, workers: int, keep: Path | None) -> Iterator[_Job]:
    seeds = min(seeds, row.max_seeds or seeds)
    step = max(1, math.ceil(seeds / (8 * workers)))
    searches: dict[tuple[str, float | None], list[TableColumn]] = {}
    for column in table.columns:
        searches.setdefault((column.search, column.budget_s), []).append(column)
    for columns in searches.values():
        for start in range(0, seeds, step):
            yield _Job(table, row, tuple(columns), range(start, min(start + step, seeds)), keep)


def _run(job: _Job) -> _Done:
    """The searches of a job, one after the other."""
    return _run_controller(job) if _searched(job.table) else _run_method(job)


def _run_method(job: _Job) -> _Done:
    started = time.perf_counter()
    if isinstance(job.table.protocol, JointReplay):
        assert job.row.method is not None, "the row is run"
        parts = _grid(job.table, job.row, job.columns[0])
        results = [measure_replays(job.table, job.row.method, seed, job.keep, parts) for seed in job.seeds]
        over_time = {name: np.stack([curves[name] for _, curves in results]) for name in results[0][1]}
        values = {column.name: [values_of_seed[column.name] for values_of_seed, _ in results] for column in job.columns}
        return _Done(job, values, over_time, 0, time.perf_counter() - started)
    values_by_seed = [_measured(job.table, job.row, seed, job.keep) for seed in job.seeds]
    values = {column.name: [values_of_seed[column.name] for values_of_seed in values_by_seed] for column in job.columns}
    over_latency = {}
    if isinstance(job.table.protocol, ElasticFront):
        grid = _grid(job.table, job.row, job.columns[0])
        for column in job.columns:
            precision = next((name for name in PRECISIONS if column.shows == f"hypervolume_{name}"), None)
            if precision is not None:
                lines = [accuracy_over_latency(of_seed["points"], precision, grid) for of_seed in values_by_seed]
                over_latency[column.name] = np.stack(lines)
    return _Done(job, values, over_latency, 0, time.perf_counter() - started)


def _measured(table: PaperTable, row: Row, seed: int, keep: Path | None) -> dict[str, Any]:
    """The value of every column of a row, for one seed; of an elastic front its `points`, too."""
    if trains(table):
        return measured_row(table, row, seed, keep)
    if not isinstance(table.protocol, Hypervolume):
        return measure_row(table, row, seed)
    assert row.method is not None, "the row is run"
    return measure_fronts(table, row.method, seed, keep)


def _run_controller(job: _Job) -> _Done:
    table = load_table(job.table.benchmark)
    started = time.perf_counter()
    search, budget_s, protocol = job.columns[0].search, job.columns[0].budget_s, job.table.protocol
    tests = {column.name: table.column(dataset=column.read_dataset, split="test", epochs=200) for column in job.columns}
    grid = _grid(job.table, job.row, job.columns[0])
    values: dict[str, list[float]] = {name: [] for name in tests}
    curves: dict[str, list[Vector]] = {name: [] for name in tests}
    stopped = 0
    split = "test" if isinstance(protocol, Queries) else "val"
    evaluator = Tabular(table.space, table=job.table.benchmark, dataset=search, split=split)
    for seed in job.seeds:
        controller = make_controller(job.row, job.table.benchmark, seed, search)
        first = first_cells(job.row, job.table.benchmark, seed, search)
        if isinstance(protocol, Queries):
            optimum = int(np.argmax(evaluator.oracle.scores))
            limit = _limit(protocol, job.row)
            trace = simulate(controller, evaluator, max_queries=limit, until_row=optimum, start_with=first)
            used = queries(trace)
            stopped += int(trace.rows[-1] != optimum)
            position = used.astype(np.float64)
            read = {name: float(limit if trace.rows[-1] != optimum else used[-1]) for name in tests}
        elif isinstance(protocol, BestOfQueries):
            counts = {column.name: column.queries or 0 for column in job.columns}
            trace = simulate(controller, evaluator, max_queries=max(counts.values()), start_with=first)
            used, best = queries(trace), incumbents(trace)
            position = used.astype(np.float64)
            last = {name: int(np.searchsorted(used, count, side="right")) - 1 for name, count in counts.items()}
            read = {name: float(test[best[last[name]]]) for name, test in tests.items()}
        else:
            if not isinstance(protocol, TimeBudget) or budget_s is None:
                raise TypeError("a table whose rows search has a budget of time or of queries")
            trace = simulate(controller, evaluator, budget_s=budget_s, start_with=first)
            position = trace.ended_s
            best = incumbents(trace)
            exact = protocol.read == "interpolated"
            read = {name: read_off(position, test[best], budget_s, exact=exact) for name, test in tests.items()}
        best = incumbents(trace)
        where = np.searchsorted(position, grid, side="right") - 1
        for name, test in tests.items():
            values[name].append(read[name])
            curves[name].append(np.where(where < 0, np.nan, test[best][np.maximum(where, 0)]))
    stacked = {name: np.array(curves_of_seeds) for name, curves_of_seeds in curves.items()}
    return _Done(job, values, stacked, stopped, time.perf_counter() - started)


def incumbents(trace: Trace) -> npt.NDArray[np.int64]:
    """(k,) the row with the best score so far after each evaluation.

    Only the full fidelity counts, and of equal scores the first.
    """
    scores = np.where(trace.full, trace.scores, -np.inf)
    before = np.concatenate([[-np.inf], np.maximum.accumulate(scores)[:-1]])
    best = np.maximum.accumulate(np.where(scores > before, np.arange(len(scores)), 0))
    return trace.rows[best]


def queries(trace: Trace) -> npt.NDArray[np.int64]:
    """(k,) how many different rows had been evaluated after each evaluation."""
    _, first = np.unique(trace.rows, return_index=True)
    new = np.zeros(len(trace.rows), dtype=np.int64)
    new[first] = 1
    return np.cumsum(new)


def read_off(ended_s: Vector, values: Vector, budget_s: float, *, exact: bool) -> float:
    """The value of a search at the end of its budget.

    Args:
        ended_s: (k,) ascending ends of the evaluations, in seconds.
        values: (k,) values of the best so far after each evaluation.
        budget_s: Seconds at which the value is read.
        exact: Whether to interpolate linearly between the evaluations before and behind the budget; otherwise the last
            one within it is taken. In both cases the first one if the budget is spent before it ends.
    """
    if exact:
        return float(np.interp(budget_s, ended_s, values))
    return float(values[max(0, int(np.searchsorted(ended_s, budget_s, side="right")) - 1)])


def _limit(protocol: Queries, row: Row) -> int:
    return min(protocol.max_queries, row.max_queries or protocol.max_queries)


def _grid(table: PaperTable, row: Row, column: TableColumn) -> Vector:
    if isinstance(table.protocol, Queries):
        return np.unique(np.geomspace(1, _limit(table.protocol, row), POINTS).round())
    if isinstance(table.protocol, BestOfQueries):
        return np.arange(1.0, 1 + max(other.queries or 1 for other in table.columns))
    if isinstance(table.protocol, JointReplay | ElasticFront):
        return np.linspace(0, 1, POINTS)
    assert column.budget_s is not None, "PaperTable checks this"
    return np.linspace(0, column.budget_s, POINTS)


def _cell(table: PaperTable, row: Row, column: TableColumn, parts: Sequence[_Done]) -> Entry:
    published = row.published.get(column.name)
    paper = published.mean if published else None
    paper_std = published.std if published else None
    source = table.sources[published.source] if published else None
    trust = published.trust if published else None
    note = _over_limit(table, row, column) if published else None
    cell = Entry(row.name, column.name, paper, paper_std, source, trust, note=note)
    if not parts:
        return replace(cell, reason=row.reason)
    values = np.array([value for part in parts for value in part.values[column.name]])
    measured, n = float(values.mean()), len(values)
    std = float(values.std()) if n > 1 else None  # one run does not tell
    stopped, p95 = None, None
    if isinstance(table.protocol, Queries):
        stopped, p95 = sum(part.stopped for part in parts), float(np.percentile(values, 95))
    difference = None
    if paper is not None and paper_std is not None and row.runs is not None and std is not None and not stopped:
        error = math.sqrt(std**2 / n + paper_std**2 / row.runs)
        difference = (measured - paper) / error if error > 0 else None
    seconds = sum(part.seconds for part in parts)
    return replace(
        cell, measured=measured, std=std, n=n, seconds=seconds, stopped=stopped, p95=p95, difference_se=difference
    )


def _beside_first(table: PaperTable, rows: Sequence[Row], cells: list[Entry], results: Sequence[_Done]) -> list[Entry]:
    """The entries, each with how far the first row is ahead of it over the same seeds, with a 95 % interval.

    Of networks inside a trained one, only the hypervolume tells who is ahead.
    """

    def values(row: str, column: str) -> list[float]:
        return [value for part in results if part.job.row.name == row for value in part.values.get(column, ())]

    compared = {
        column.name
        for column in table.columns
        if not isinstance(table.protocol, ElasticFront) or str(column.shows).startswith("hypervolume")
    }
    noted = []
    for cell in cells:
        if cell.column not in compared:
            noted.append(cell)
            continue
        first, ours = values(rows[0].name, cell.column), values(cell.row, cell.column)
        common_seeds = min(len(first), len(ours))
        note = None
        if cell.row != rows[0].name and common_seeds > 1 and isinstance(table.protocol, JointReplay | ElasticFront):
            ratio, low, high = mean_ratio_interval(first[:common_seeds], ours[:common_seeds])
            if ratio is not None and low is not None and high is not None:
                note = f"{rows[0].name} has {ratio:.3f} times as much ({low:.3f} to {high:.3f}, 95 %)"
                empty = sum(value <= 0 for value in ours)
                note += f"; {empty} of its {len(ours)} searches cover nothing" if empty else ""
        elif cell.row != rows[0].name and common_seeds > 1:
            ahead = np.array(first[:common_seeds]) - np.array(ours[:common_seeds])
            reach = float(stats.t.ppf(0.975, common_seeds - 1)) * float(ahead.std(ddof=1)) / math.sqrt(common_seeds)
            middle = float(ahead.mean())
            note = f"{rows[0].name} is ahead by {middle:+.4f} ({middle - reach:+.4f} to {middle + reach:+.4f}, 95 %)"
        noted.append(replace(cell, note=note))
    return noted


def _over_limit(table: PaperTable, row: Row, column: TableColumn) -> str | None:
    """A sentence if the published cell breaks the limit of its column; else None."""
    for latency_column in table.columns:
        if latency_column.shows == "latency_ms" and (latency_column.devices, latency_column.limit_ms) == (
            column.devices,
            column.limit_ms,
        ):
            latency = row.published.get(latency_column.name)
            if latency is not None and latency_column.limit_ms is not None and latency.mean > latency_column.limit_ms:
                return f"the published cell takes {latency.mean:g} ms, over the limit of {latency_column.limit_ms:g} ms"
    return None


def _curve(table: PaperTable, row: Row, column: TableColumn, parts: Sequence[_Done]) -> Curve:
    values = np.concatenate([part.curves[column.name] for part in parts])
    complete = ~np.isnan(values).any(axis=0)  # from where on every search has evaluated something
    low, high = np.percentile(values[:, complete], BAND, axis=0)
    return Curve(_grid(table, row, column)[complete], values[:, complete].mean(axis=0), low, high)
