"""Rows that train networks: what checks and measures them by the protocol of their table, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nasbench.reproduce.compression_rows import measure_recipe, recipe_method
from nasbench.reproduce.front_rows import front_of_networks_method, measure_front_of_networks
from nasbench.reproduce.one_shot_rows import check_one_shot, measure_one_shot
from nasbench.reproduce.ranking_rows import measure_ranking, ranking_method
from nasbench.storage.files import content_key, read_json, write_json
from nasbench.tables.paper_table import PaperTable, Row
from nasbench.tables.protocols import Compression, ElasticFront, OneShot, SharedRanking

P = TypeVar("P")


@dataclass(frozen=True)
class TrainedRow:
    """How the rows of a protocol are run.

    Attributes:
        check: Function (table, row) that raises UserError if the method of the row or an option is not allowed.
        measure: Function (table, row, seed, folder) that gives everything a column may show; a training that can go on
            is stored in the folder, where there is one.
    """

    check: Callable[[PaperTable, Row], object]
    measure: Callable[[PaperTable, Row, int, Path | None], dict[str, Any]]


def _method(row: Row) -> dict[str, Any]:
    assert row.method is not None, "rows without a method are not run"
    return row.method


ROWS: dict[type[Any], TrainedRow] = {
    Compression: TrainedRow(
        lambda table, row: recipe_method(_of(table, Compression), _method(row)),
        lambda table, row, seed, folder: measure_recipe(_of(table, Compression), _method(row), seed),
    ),
    ElasticFront: TrainedRow(
        lambda table, row: front_of_networks_method(_method(row)),
        lambda table, row, seed, folder: measure_front_of_networks(
            _of(table, ElasticFront), _method(row), seed, folder
        ),
    ),
    OneShot: TrainedRow(lambda table, row: check_one_shot(table, _of(table, OneShot), _method(row)), measure_one_shot),
    SharedRanking: TrainedRow(
        lambda table, row: ranking_method(_method(row)),
        lambda table, row, seed, folder: measure_ranking(_of(table, SharedRanking), _method(row), seed, folder),
    ),
}
"""By the protocol of the table."""


def _of(table: PaperTable, kind: type[P]) -> P:
    assert isinstance(table.protocol, kind), "the entry of the protocol was chosen"
    return table.protocol


def trains(table: PaperTable) -> bool:
    """Whether the rows of a table train networks."""
    return type(table.protocol) in ROWS


def check_row(table: PaperTable, row: Row) -> None:
    """Raise UserError if the method of a row or one of its options is not allowed, or something is missing for it."""
    ROWS[type(table.protocol)].check(table, row)


def measured_row(table: PaperTable, row: Row, seed: int, keep: Path | None) -> dict[str, Any]:
    """The value of every column of a row, for one seed; of an elastic front its `points`, too.

    Args:
        table: Table whose rows train networks.
        row: Row that is run.
        seed: Random seed.
        keep: Folder in which the values are stored, and read again; None stores nothing.
    """
    protocol = table.protocol.model_dump(mode="json", exclude={"text"})
    request = {"protocol": protocol, "method": row.method, "seed": seed}
    key = content_key(request)
    file = None if keep is None else keep / f"{key}.json"
    if file is not None and file.exists():
        measured: dict[str, Any] = read_json(file, "delete it, and it is measured again", ("found",))["found"]
    else:
        measured = _measure(table, row, seed, None if keep is None else keep / key)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {"row": row.name, **request, "found": measured})
    shown = {
        column.name: measured[f"{column.shows} {column.read}" if column.read else str(column.shows)]
        for column in table.columns
    }
    return shown | ({"points": measured["points"]} if "points" in measured else {})


def _measure(table: PaperTable, row: Row, seed: int, folder: Path | None) -> dict[str, Any]:
    return ROWS[type(table.protocol)].measure(table, row, seed, folder)
