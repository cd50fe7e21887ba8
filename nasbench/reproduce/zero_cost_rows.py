"""Rank correlations of zero-cost proxies with the accuracies of trained cells of a tabular benchmark."""

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
Scores = dict[str, dict[str, tuple[float, float]]]  # score and its seconds, by data set and proxy

BLIND = frozenset({"zen", "meco", "az_expressivity", "az_progressivity", "az_trainability"})
"""Proxies that see neither images nor the last layer: the same for data sets whose images have the same size."""
CHUNK = 4  # number of cells of a job
VERSION = 3
"""Raised whenever scores of a proxy change, so that stored ones of before are not read."""


@dataclass(frozen=True, kw_only=True)
class ProxyMethod:
    """A proxy by itself.

    Attributes:
        proxy: Name of the proxy.
    """

    proxy: str

    @property
    def proxies(self) -> tuple[str, ...]:
        """The proxies whose scores of a cell are needed."""
        return (self.proxy,)

    def of(self, columns: Mapping[str, Vector]) -> Vector:
        """(n,) scores of the cells."""
        return columns[self.proxy]


@dataclass(frozen=True, kw_only=True)
class LogRankSum:
    """The sum of the logarithms of the ranks by several proxies.

    Attributes:
        proxies: Names of the proxies.
    """

    proxies: tuple[str, ...]

    def of(self, columns: Mapping[str, Vector]) -> Vector:
        """(n,) scores of the cells."""
        return log_rank_sum([columns[name] for name in self.proxies])


@dataclass(frozen=True, kw_only=True)
class Vote:
    """The vote of several proxies.

    Attributes:
        proxies: Names of the proxies.
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
    proxies_of_row = kind(**options)
    for name in proxies_of_row.proxies:
        one_of("zero-cost proxy", name, PROXIES)
    return proxies_of_row


def rank_cells(
    table: PaperTable,
    rows: Sequence[Row],
    *,
    cells: int | None = None,
    workers: int = 1,
    keep: Path | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Reproduction:
    """Score a sample of cells by every proxy of the rows, and compare its ranks with those of the accuracy.

    Args:
        table: Table whose protocol is a `ZeroCostRanking`.
        rows: Rows of the table.
        cells: Number of cells; None is what the table says. A larger sample holds the smaller one.
        workers: Number of processes.
        keep: Folder in which the scores of a cell are stored, and read again; None is a folder in the cache folder.
        on_progress: Function that is called with (table, cells done, all cells).

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
    scores_of_cell = _measured(table, sample, names, folder, workers, on_progress)
    columns = {
        dataset: {name: np.array([scores_of_cell[cell][dataset][name][0] for cell in sample]) for name in names}
        for dataset in protocol.datasets
    }
    accuracy = {
        dataset: benchmark.column(dataset=dataset, split="test", epochs=200)[sample] for dataset in protocol.datasets
    }
    entries = []
    for row in rows:
        for column in table.columns:
            published = row.published.get(column.name)
            paper = published.mean if published else None, published.std if published else None
            origin = table.sources[published.source] if published else None, published.trust if published else None
            if row.name not in methods:
                entries.append(Entry(row.name, column.name, *paper, *origin, reason=row.reason))
                continue
            method, dataset = methods[row.name], column.search
            if column.shows == "published":
                value, compared = _with_published(method, dataset, benchmark, sample, columns[dataset])
                entries.append(Entry(row.name, column.name, *paper, *origin, measured=value, n=compared))
                continue
            if column.shows == "seconds":
                seconds = [sum(scores_of_cell[cell][dataset][name][1] for name in method.proxies) for cell in sample]
                value = float(np.mean(seconds))
            else:
                scores = method.of(columns[dataset])
                value = _agreement(str(column.shows), scores, accuracy[dataset])
            entries.append(Entry(row.name, column.name, *paper, *origin, measured=value, n=count))
    return Reproduction(table, count, tuple(entries), {}, {}, time.perf_counter() - started)


def _with_published(
    method: ProxyMethod | LogRankSum | Vote,
    dataset: str,
    benchmark: Table,
    sample: Sequence[int],
    columns: Mapping[str, Vector],
) -> tuple[float | None, int]:
    """The rank correlation of a proxy with its published scores on the cells of the sample, and their number."""
    if not isinstance(method, ProxyMethod) or SOURCES["zero_cost"].found() is None:
        return None, 0
    published = load_published_proxies(dataset)
    if method.proxy not in published.scores:
        return None, 0
    rows = {arch: row for row, arch in enumerate(published.architectures)}
    places = [place for place, cell in enumerate(sample) if benchmark.architectures[cell] in rows]
    published_rows = [rows[benchmark.architectures[sample[place]]] for place in places]
    if len(places) < 3:
        return None, len(places)
    return rank_correlation(columns[method.proxy][places], published.scores[method.proxy][published_rows]), len(places)


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
    scores_of_cell: dict[int, Scores] = {}
    for part in run_all(_run, jobs, workers):
        scores_of_cell |= part
        if on_progress is not None:
            on_progress(table.name, len(scores_of_cell), len(sample))
    return scores_of_cell


def _run(job: _Job) -> dict[int, Scores]:
    return {cell: cell_scores(job.table, cell, job.names, job.folder) for cell in job.cells}


def cell_scores(table: PaperTable, cell: int, names: Sequence[str], folder: Path) -> Scores:
    """The scores of one cell, from the folder as far as they lie there; what is new is put there."""
    protocol = table.protocol
    assert isinstance(protocol, ZeroCostRanking), "the caller asks"
    request = {
        "benchmark": table.benchmark,
        "protocol": protocol.model_dump(mode="json", exclude={"text", "cells"}),
        "version": VERSION,
    }
    key = content_key(request)
    file = folder / key / f"{cell}.json"
    scores: Scores = {}
    if file.exists():
        stored = read_json(file, "delete it, and the cell is looked at again", ("scores",))["scores"]
        scores = {dataset: {name: tuple(pair) for name, pair in pairs.items()} for dataset, pairs in stored.items()}
    missing = {
        dataset: [name for name in names if name not in scores.get(dataset, {})] for dataset in protocol.datasets
    }
    if not any(missing.values()):
        return scores
    shapes: dict[tuple[str, tuple[int, int, int]], tuple[float, float]] = {}
    for dataset in protocol.datasets:
        scores_of_dataset = scores.setdefault(dataset, {})
        shape, classes = SHAPES[dataset]
        scores_of_dataset |= {name: shapes[name, shape] for name in missing[dataset] if (name, shape) in shapes}
        unscored = [name for name in names if name not in scores_of_dataset]
        if unscored:
            space = get_space(table.benchmark)
            arch = load_table(table.benchmark).architectures[cell]
            network = fresh_model(space, arch, Task(shape, classes), protocol.weights_seed)
            images, labels = _minibatch(dataset)
            probe = Probe(network, images[: protocol.images], labels[: protocol.images], seed=protocol.weights_seed)
            scores_of_dataset |= timed_scores(unscored, probe)
        shapes |= {(name, shape): pair for name, pair in scores_of_dataset.items() if name in BLIND}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"cell": cell, "scores": scores})
    return scores


_minibatch = cache(load_minibatch)


def check_protocol(table: PaperTable, seeds: int | None) -> None:
    """Raise UserError if searches are asked for, which this table has none of."""
    if seeds is not None:
        raise UserError(f"table {table.name!r} searches nothing, so it has no seeds; give --cells.")
