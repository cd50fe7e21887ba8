"""reorder: whether networks keep their order when they are compressed and deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from nasbench.cli.options import Json
from nasbench.cli.output import show
from nasbench_registry import UserError


def reorder(
    source: Annotated[
        Path,
        typer.Argument(
            help="A table of nasbench build-table, or the folder of a search over recipes.", show_default=False
        ),
    ],
    json: Json = False,
) -> None:
    """Say whether a joint search will pay: whether networks keep their order when they are deployed."""
    from nasbench.report.reorder import deployed_in_run, deployed_in_table, reorder as reordered

    if source.is_dir():
        from nasbench.report.build import read_space
        from nasbench.search.settings import read_candidates, read_settings
        from nasbench.storage.run_folder import RunFolder

        folder = RunFolder(source).require()
        if not read_space(folder)["joint"]:
            raise UserError(
                f"{source} searched networks with one recipe, so nothing changes their order; name a search whose "
                f"recipe has choices, or a table of nasbench build-table."
            )
        result = reordered(deployed_in_run(read_candidates(folder, read_settings(folder))))
    else:
        from nasbench.tables.built import read_table

        result = reordered(deployed_in_table(read_table(source)))
    show(result, _shown(result), as_json=json)


def _shown(result: dict[str, Any]) -> Group:
    table = Table(title="rank correlations, with 95 % intervals")
    for column in ("recipe", "backend", "networks", "accuracy before and after", "MACs and latency"):
        table.add_column(column, justify="left" if column in ("recipe", "backend") else "right")
    for row in result["rows"]:
        table.add_row(row["recipe"], row["backend"], str(row["n"]), _text(row["quality"]), _text(row["latency"]))
    return Group(table, Text(result["statement"]))


def _text(agreement: dict[str, Any] | None) -> str:
    if agreement is None:
        return ""
    return f"{agreement['correlation']:.3f} ({agreement['low']:.3f} to {agreement['high']:.3f})"
