"""Rows of a table of differentiable searches: each is a method, whose last cell is looked up in a benchmark."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasbench.data.registry import load_data
from nasbench.problems.image_classification import ImageClassification
from nasbench.report.operations import SKIP
from nasbench.supernet.differentiable.search import DifferentiableSearch, check_search
from nasbench.tables.paper_table import PaperTable, Row
from nasbench.tables.protocols import OneShot
from nasbench.tables.registry import load_table
from nasbench.training.config import TrainingConfig
from nasbench_registry import UserError
from search_spaces import SearchSpace, get_space


def check_one_shot(table: PaperTable, protocol: OneShot, method: Mapping[str, Any]) -> None:
    """Raise UserError if the method of a row or one of its options does not exist, or data are missing."""
    space, problem = _space(table, protocol), _problem(protocol)
    name, options = _named(protocol, method)
    check_search(space, problem, name, options)
    load_table(table.benchmark)


def measure_one_shot(table: PaperTable, row: Row, seed: int, folder: Path | None) -> dict[str, float]:
    """Everything that a column may show of a row, for one seed: of the cell that is derived after the last epoch.

    Args:
        table: Table of the row.
        row: Row that is run.
        seed: Random seed of the search.
        folder: Folder in which the search is stored after each epoch, to go on from there; None stores nothing.
    """
    protocol = table.protocol
    if not isinstance(protocol, OneShot) or row.method is None:
        raise TypeError("a row of a table of the protocol one_shot is run by its method")
    name, options = _named(protocol, row.method)
    space = _space(table, protocol)
    search = DifferentiableSearch(space, _problem(protocol), name, seed=seed, folder=folder, **options)
    arch = search.run()
    benchmark = load_table(table.benchmark)
    accuracies = {
        f"test_acc_pct {column.read}": benchmark.query(arch, dataset=str(column.read), split="test", epochs=200)
        for column in table.columns
        if column.shows == "test_acc_pct"
    }
    last = search.history[-1]
    return accuracies | {
        "skip_edges": float(sum(count for operation, count in last.chosen.items() if SKIP in operation)),
        "shared_acc_pct": last.val_quality,
        "seconds": sum(epoch.seconds for epoch in search.history),
    }


def _named(protocol: OneShot, method: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    options = {**protocol.search, **{key: value for key, value in method.items() if key != "name"}}
    return str(method["name"]), options


def _space(table: PaperTable, protocol: OneShot) -> SearchSpace:
    space = get_space(**protocol.space)
    if space.name != load_table(table.benchmark).space.name:
        raise UserError(f"benchmark {table.benchmark!r} holds no networks of space {space.name!r}; name its own space.")
    return space


@functools.lru_cache(maxsize=1)
def _loaded(protocol_data: tuple[tuple[str, Any], ...], judged: int) -> ImageClassification:
    problem = ImageClassification(load_data(**dict(protocol_data)), TrainingConfig())
    return replace(problem, data=problem.data.fewer(judged, 0))


def _problem(protocol: OneShot) -> ImageClassification:
    problem = _loaded(tuple(protocol.data.items()), protocol.judged)
    return replace(problem, training=TrainingConfig.model_validate(protocol.training))
