"""Rows of a table of weight-sharing searches: each is a method, whose last cell is looked up in a benchmark."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from controllers import get_controller
from nasbench.data.registry import load_data
from nasbench.problems.image_classification import ImageClassification
from nasbench.report.operations import SKIP
from nasbench.reproduce.single_path import NAME, SinglePath, search_single_path
from nasbench.supernet.differentiable.search import DifferentiableSearch, check_search
from nasbench.tables.paper_table import PaperTable, Row
from nasbench.tables.protocols import OneShot, SharedRanking
from nasbench.tables.registry import load_table
from nasbench.training.config import TrainingConfig
from nasbench_registry import UserError
from search_spaces import SearchSpace, get_space


def check_one_shot(table: PaperTable, protocol: OneShot, method: Mapping[str, Any]) -> None:
    """Raise UserError if the method of a row or one of its options does not exist, or data are missing."""
    space, problem = _space(table, protocol), problem_of(protocol)
    if method["name"] == NAME:
        config = SinglePath.read(_options(method))
        get_controller(config.controller.name, space, seed=0, **config.controller.options)
    else:
        check_search(space, problem, str(method["name"]), {**protocol.search, **_options(method)})
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
    name, options = str(row.method["name"]), _options(row.method)
    space, problem = _space(table, protocol), problem_of(protocol)
    if name == NAME:
        chosen = search_single_path(space, problem, SinglePath.read(options), seed=seed, folder=folder)
        arch, shared_acc_pct, seconds = chosen.arch, chosen.val_acc_pct, chosen.seconds
    else:
        search = DifferentiableSearch(space, problem, name, seed=seed, folder=folder, **{**protocol.search, **options})
        arch = search.run()
        shared_acc_pct = search.history[-1].val_quality
        seconds = sum(epoch.seconds for epoch in search.history)
    benchmark = load_table(table.benchmark)
    accuracies = {
        f"test_acc_pct {column.read}": benchmark.query(arch, dataset=str(column.read), split="test", epochs=200)
        for column in table.columns
        if column.shows == "test_acc_pct"
    }
    operations = [str(space.decisions[place].options[pick]) for place, pick in enumerate(arch.picks)]
    return accuracies | {
        "skip_edges": float(sum(SKIP in operation for operation in operations)),
        "shared_acc_pct": shared_acc_pct,
        "seconds": seconds,
    }


def _options(method: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in method.items() if key != "name"}


def _space(table: PaperTable, protocol: OneShot) -> SearchSpace:
    space = get_space(**protocol.space)
    if space.name != load_table(table.benchmark).space.name:
        raise UserError(f"benchmark {table.benchmark!r} holds no networks of space {space.name!r}; name its own space.")
    return space


@functools.lru_cache(maxsize=1)
def _loaded(protocol_data: tuple[tuple[str, Any], ...], judged: int) -> ImageClassification:
    problem = ImageClassification(load_data(**dict(protocol_data)), TrainingConfig())
    return replace(problem, data=problem.data.fewer(judged, 0))


def problem_of(protocol: OneShot | SharedRanking, training: Mapping[str, Any] | None = None) -> ImageClassification:
    """The problem of a protocol, with as many validation examples as it judges by.

    Args:
        protocol: Protocol of the table.
        training: Keys of the training section that differ from those of the protocol.
    """
    problem = _loaded(tuple(protocol.data.items()), protocol.judged)
    return replace(problem, training=TrainingConfig.model_validate({**protocol.training, **(training or {})}))
