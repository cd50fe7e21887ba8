"""How zero-cost proxies rank the cells of a tabular benchmark by the accuracy that training gave them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from nasbench.data.folders import data_folders
from nasbench.evaluators.proxies import PROXIES, Probe
from nasbench.evaluators.proxies.aggregate import log_rank_sum, vote
from nasbench.evaluators.proxies.registry import timed_scores
from nasbench.objectives.statistics import rank_correlation
from nasbench.reproduce.parallel import run_all
from nasbench.storage.files import content_key, read_json, write_json
from nasbench.tables.minibatches import SHAPES, load_minibatch
from nasbench.tables.paper_table import PaperTable, Row
from nasbench.tables.protocols import ZeroCostRanking
from nasbench.tables.registry import load_table
from nasbench.tables.reproduction import Entry, Reproduction
from nasbench.tables.sources import SOURCES
from nasbench.tables.table import Table
from nasbench.tables.zero_cost import load_published_proxies
from nasbench_registry import UserError, check_options, one_of
from search_spaces import Task, get_space
from search_spaces.fresh_model import fresh_model

Vector = npt.NDArray[np.float64]
Scores = dict[str, dict[str, tuple[float, float]]]  # by data set and proxy: the score, and its seconds

BLIND = frozenset({"zen", "meco", "az_expressivity", "az_progressivity", "az_trainability"})
"""Proxies that see neither images nor the last layer: the same for data sets whose images have the same size."""
CHUNK = 4  # cells of a job


@dataclass(frozen=True, kw_only=True)
class ProxyMethod:
    """A proxy by itself.

    Attributes:
        proxy: its name.
    """

    proxy: str

    @property
    def proxies(self) -> tuple[str, ...]:
        """What has to be known of a cell."""
        return (self.proxy,)

    def of(self, columns: Mapping[str, Vector]) -> Vector:
        """(n,) scores of the cells."""
        return columns[self.proxy]


@dataclass(frozen=True, kw_only=True)
class LogRankSum:
    """The sum of the logarithms of the ranks by several proxies.

    Attributes:
        proxies: their names.
    """

    proxies: tuple[str, ...]

    def of(self, columns: Mapping[str, Vector]) -> Vector:
        """(n,) scores of the cells."""
        return log_rank_sum([columns[name] for name in self.proxies])


@dataclass(frozen=True, kw_only=True)
class Vote:
    """The vote of several proxies.

    Attributes:
        proxies: their names.
    """

    proxies: tuple[str, ...]

    def of(self, columns: Mapping[str, Vector]) -> Vector:
        """(n,) scores of the cells."""
        return vote([columns[name] for name in self.proxies])


METHODS: dict[str, type[ProxyMethod] | type[LogRankSum] | type[Vote]] = {
    "proxy": ProxyMethod,
    "log_rank_sum": LogRankSum,
    "vote": Vote,
}


def proxy_method(method: Mapping[str, Any]) -> ProxyMethod | LogRankSum | Vote:
    """The method of a row; UserError if a name or an option is not allowed."""
    kind = METHODS[one_of("method", str(method["name"]), METHODS)]
    options: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in method.items()}
    del options["name"]
    check_options(kind, options, what=f"method {method['name']!r}")
    made = kind(**options)
    for name in made.proxies:
        one_of("zero-cost proxy", name, PROXIES)
    return made


def rank_cells(
    table: PaperTable,
    rows: Sequence[Row],
    *,
    cells: int | None = None,
    workers: int = 1,
    keep: Path | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Reproduction:
    """Every proxy of the rows on a sample of cells, and how its ranks agree with those of the accuracy.

    Args:
        table: whose protocol is a `ZeroCostRanking`.
        rows: of it.
        cells: how many; None is what the table says. A larger sample holds the smaller one.
        workers: processes.
        keep: where the scores of a cell are kept, and found again; None is a place in the cache folder.
        on_progress: called with (table, cells done, all cells).

    Raises:
        UserError: data are missing, or a method is not allowed.
    """
    protocol = table.protocol
    assert isinstance(protocol, ZeroCostRanking), "the caller asks"
    started, benchmark = time.perf_counter(), load_table(table.benchmark)
    methods = {row.name: proxy_method(row.method) for row in rows if row.method is not None}
    names = tuple(dict.fromkeys(name for method in methods.values() for name in method.proxies))
    for dataset in protocol.datasets:
        load_minibatch(dataset)
    count = min(cells or protocol.cells, len(benchmark))
    sample = np.random.default_rng(protocol.sample_seed).permutation(len(benchmark))[:count].tolist()
    folder = keep or data_folders()[-1] / "zero_cost"
    found = _measured(table, sample, names, folder, workers, on_progress)
    columns = {
        dataset: {name: np.array([found[cell][dataset][name][0] for cell in sample]) for name in names}
        for dataset in protocol.datasets
    }
    accuracy = {
        dataset: benchmark.column(dataset=dataset, split="test", epochs=200)[sample] for dataset in protocol.datasets
    }
    entries = []
    for row in rows:
        for column in table.columns:
            said = row.published.get(column.name)
            known = said.mean if said else None, said.std if said else None
            origin = table.sources[said.source] if said else None, said.trust if said else None
            if row.name not in methods:
                entries.append(Entry(row.name, column.name, *known, *origin, reason=row.reason))
                continue
            method, dataset = methods[row.name], column.search
            if column.shows == "published":
                value, compared = _with_published(method, dataset, benchmark, sample, columns[dataset])
                entries.append(Entry(row.name, column.name, *known, *origin, measured=value, n=compared))
                continue
            if column.shows == "seconds":
                each = [sum(found[cell][dataset][name][1] for name in method.proxies) for cell in sample]
                value = float(np.mean(each))
            else:
                scores = method.of(columns[dataset])
                value = _agreement(str(column.shows), scores, accuracy[dataset])
            entries.append(Entry(row.name, column.name, *known, *origin, measured=value, n=count))
    return Reproduction(table, count, tuple(entries), {}, {}, time.perf_counter() - started)


def _with_published(
    method: ProxyMethod | LogRankSum | Vote,
    dataset: str,
    benchmark: Table,
    sample: Sequence[int],
    columns: Mapping[str, Vector],
) -> tuple[float | None, int]:
    """How a proxy ranks the published cells of the sample, compared with what was published; and how many they are."""
    if not isinstance(method, ProxyMethod) or SOURCES["zero_cost"].found() is None:
        return None, 0
    held = load_published_proxies(dataset)
    if method.proxy not in held.scores:
        return None, 0
    rows = {arch: row for row, arch in enumerate(held.architectures)}
    places = [place for place, cell in enumerate(sample) if benchmark.architectures[cell] in rows]
    there = [rows[benchmark.architectures[sample[place]]] for place in places]
    if len(places) < 3:
        return None, len(places)
    return rank_correlation(columns[method.proxy][places], held.scores[method.proxy][there]), len(places)


def _agreement(kind: str, scores: Vector, accuracy: Vector) -> float:
    """Spearman's or Kendall's correlation; zero for scores that are all equal."""
    if scores.min() == scores.max():
        return 0.0
    if kind == "spearman":
        return rank_correlation(scores, accuracy)
    return float(kendalltau(scores, accuracy).statistic)


@dataclass(frozen=True)
class _Job:
    table: PaperTable
    cells: tuple[int, ...]
    names: tuple[str, ...]
    folder: Path


def _measured(
    table: PaperTable,
    sample: Sequence[int],
    names: tuple[str, ...],
    folder: Path,
    workers: int,
    on_progress: Callable[[str, int, int], None] | None,
) -> dict[int, Scores]:
    jobs = [_Job(table, tuple(sample[start : start + CHUNK]), names, folder) for start in range(0, len(sample), CHUNK)]
    found: dict[int, Scores] = {}
    for part in run_all(_run, jobs, workers):
        found |= part
        if on_progress is not None:
            on_progress(table.name, len(found), len(sample))
    return found


def _run(job: _Job) -> dict[int, Scores]:
    return {cell: cell_scores(job.table, cell, job.names, job.folder) for cell in job.cells}


def cell_scores(table: PaperTable, cell: int, names: Sequence[str], folder: Path) -> Scores:
    """The scores of one cell, from the folder as far as they lie there; what is new is put there."""
    protocol = table.protocol
    assert isinstance(protocol, ZeroCostRanking), "the caller asks"
    asked = {"benchmark": table.benchmark, "protocol": protocol.model_dump(mode="json", exclude={"text", "cells"})}
    key = content_key(asked)
    file = folder / key / f"{cell}.json"
    known: Scores = {}
    if file.exists():
        told = read_json(file, "delete it, and the cell is looked at again", ("scores",))["scores"]
        known = {dataset: {name: tuple(pair) for name, pair in found.items()} for dataset, found in told.items()}
    missing = {dataset: [name for name in names if name not in known.get(dataset, {})] for dataset in protocol.datasets}
    if not any(missing.values()):
        return known
    shapes: dict[tuple[str, tuple[int, int, int]], tuple[float, float]] = {}
    for dataset in protocol.datasets:
        found = known.setdefault(dataset, {})
        shape, classes = SHAPES[dataset]
        found |= {name: shapes[name, shape] for name in missing[dataset] if (name, shape) in shapes}
        rest = [name for name in names if name not in found]
        if rest:
            space = get_space(table.benchmark)
            arch = load_table(table.benchmark).architectures[cell]
            network = fresh_model(space, arch, Task(shape, classes), protocol.weights_seed)
            images, labels = _minibatch(dataset)
            probe = Probe(network, images[: protocol.images], labels[: protocol.images], seed=protocol.weights_seed)
            found |= timed_scores(rest, probe)
        shapes |= {(name, shape): pair for name, pair in found.items() if name in BLIND}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"cell": cell, "scores": known})
    return known


_minibatch = cache(load_minibatch)


def check_protocol(table: PaperTable, seeds: int | None) -> None:
    """Raise UserError if searches are asked for, which this table has none of."""
    if seeds is not None:
        raise UserError(f"table {table.name!r} searches nothing, so it has no seeds; give --cells.")
