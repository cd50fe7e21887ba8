"""reproduce: a table of a paper, measured again."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from nasbench.cli.options import Json
from nasbench.cli.output import err, progress_bar, show, typed
from nasbench.storage.files import write_text
from nasbench_registry import UserError

if TYPE_CHECKING:
    from nasbench.tables.reproduction import Reproduction

MIN_CELLS = 3  # fewer have no ranks to speak of


def reproduce(
    table: Annotated[
        str | None, typer.Argument(help="Name of a table, or a YAML file [list them].", show_default=False)
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Searches of each row [as the table says].", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes [one a CPU].", show_default=False)] = None,
    rows: Annotated[str | None, typer.Option(help="Only these rows: --rows REA,RANDOM", show_default=False)] = None,
    run_folder: Annotated[
        Path | None,
        typer.Option(
            "--run", help="Folder to keep finished seeds of rows in, and to go on from; where networks are trained."
        ),
    ] = None,
    cells: Annotated[
        str | None,
        typer.Option(help="Cells of a table of zero-cost proxies, or all [as the table says].", show_default=False),
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write the numbers to this file.", show_default=False)
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write a page with curves to this file.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Measure a table of a paper again, its numbers beside ours; without TABLE list them."""
    from nasbench.reproduce.reproduce import reproduce as run
    from nasbench.tables.paper_table import load_paper_table
    from nasbench.tables.reproduction import Entry

    if table is None:
        _list(json)
        return
    paper_table = load_paper_table(table)
    chosen = paper_table.select(paper_table.split_names(rows) if rows else None)
    count = workers or len(os.sched_getaffinity(0))
    with progress_bar() as bar:
        task = bar.add_task(paper_table.name, total=None)
        result = run(
            paper_table,
            seeds=seeds,
            rows=chosen,
            workers=count,
            keep=run_folder,
            cells=_count(cells),
            on_progress=lambda row, done, total: bar.update(task, description=row, completed=done, total=total),
        )
    if csv_file is not None:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["table", *(field.name for field in fields(Entry))], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"table": paper_table.name, **asdict(entry)} for entry in result.entries)
        _write(csv_file, lambda: write_text(csv_file, text.getvalue()))
    if html_file is not None:
        from nasbench.report.paper_page import write_paper_page

        _write(html_file, lambda: write_paper_page(result, html_file, typed()))
    show(result.to_json(), _printed(result), as_json=json)


def _count(cells: str | None) -> int | None:
    """The number of cells that `--cells` requests; None where the table says it."""
    if cells is None:
        return None
    if cells == "all":
        return sys.maxsize
    if not cells.isdecimal() or int(cells) < MIN_CELLS:
        raise UserError(f"--cells is {cells!r}; give a number from {MIN_CELLS} on, or all.")
    return int(cells)


def _list(json: bool) -> None:
    from nasbench.tables.paper_table import load_paper_table, table_files

    tables = [load_paper_table(name) for name in table_files()]
    shown = Table(title="tables")
    for heading in ("name", "title", "paper", "rows that are run", "columns"):
        shown.add_column(heading, overflow="fold")
    result = [
        table.model_dump(include={"name", "title", "paper", "arxiv", "table", "seeds"})
        | {
            "rows": [row.name for row in table.rows],
            "run": [row.name for row in table.rows if row.reason is None],
            "columns": [column.name for column in table.columns],
        }
        for table in tables
    ]
    for row in result:
        paper = f"{row['paper']} ({row['arxiv']})" if row["arxiv"] else row["paper"]
        shown.add_row(row["name"], row["title"], paper, ", ".join(row["run"]), ", ".join(row["columns"]))
    show(result, shown, as_json=json)


def _printed(result: Reproduction) -> RenderableType:
    from nasbench.report.paper_page import pair, precision, signed, standard_errors
    from nasbench.tables.paper_table import TRUST
    from nasbench.tables.protocols import ZeroCostRanking

    table = Table(title=f"{result.table.title} ({result.table.where})")
    if not result.table.published:
        return _ours(result, table)
    table.add_column("row")
    table.add_column("column")
    for column in ("paper", "measured", "difference", "n", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    before = None
    for entry in result.entries:
        if before not in (None, entry.row):
            table.add_section()
        digits = precision(entry.column)
        paper = pair(entry.paper, entry.paper_std, digits) + ("*" if entry.note else "")
        paper += f" [{entry.trust}]" if entry.trust else ""
        measured = pair(entry.measured, entry.std, digits)
        difference = None
        if entry.measured is not None and entry.paper is not None and not entry.stopped:
            difference = entry.measured - entry.paper
        table.add_row(
            "" if before == entry.row else entry.row,
            entry.column,
            paper,
            f">= {measured}" if entry.stopped else measured,
            signed(difference, digits) + standard_errors(entry.difference_se),
            str(entry.n) if entry.n else "",
            "" if entry.seconds is None else f"{entry.seconds:.1f}",
        )
        before = entry.row
    marks = {entry.trust for entry in result.entries}
    if isinstance(result.table.protocol, ZeroCostRanking):
        lines = [f"{result.seeds:,} cells, {result.wall_s:.1f} s."]
    else:
        lines = [
            f"seeds 0 to {result.seeds - 1}, {result.wall_s:.1f} s; paper and measured: mean +- standard deviation; "
            f"difference: measured less paper, in brackets in standard errors (SE) of the difference."
        ]
    trust = [f"[{mark}] {text}" for mark, text in TRUST.items() if mark in marks]
    lines += [f"trust: {'; '.join(trust)}."] if trust else []
    shown = {entry.row for entry in result.entries}
    rows = [row for row in result.table.rows if row.name in shown]
    lines += [f"{row.name}: {row.deviation}" for row in rows if row.deviation]
    for reason in dict.fromkeys(row.reason for row in rows if row.reason):
        lines.append(f"not run: {', '.join(row.name for row in rows if row.reason == reason)}: {reason}.")
    for entry in result.entries:
        if entry.stopped:
            lines.append(f"{entry.row}, {entry.column}: {entry.stopped} of {entry.n} searches were stopped: a bound.")
    for row in rows:
        tails = [entry for entry in result.entries if entry.row == row.name and entry.p95 is not None]
        if tails:
            numbers = ", ".join(f"{entry.column} {entry.p95:.0f}" for entry in tails)
            lines.append(f"{row.name}: 95 % of the searches need at most {numbers}.")
    lines += dict.fromkeys(f"* {entry.row}, {entry.column}: {entry.note}." for entry in result.entries if entry.note)
    return Group(table, *lines)


def _write(path: Path, write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from None
    err.print(f"wrote {path}", soft_wrap=True, highlight=False)


def _ours(result: Reproduction, table: Table) -> RenderableType:
    """A table that no paper has: a line for each row."""
    from nasbench.report.paper_page import pair, precision

    table.add_column("row")
    columns = [column.name for column in result.table.columns]
    for column in columns:
        table.add_column(column, justify="right")
    entry_of_cell = {(entry.row, entry.column): entry for entry in result.entries}
    for row in dict.fromkeys(entry.row for entry in result.entries):
        entries = [entry_of_cell[row, column] for column in columns]
        table.add_row(row, *(pair(entry.measured, entry.std, precision(entry.column)) for entry in entries))
    lines = [f"seeds 0 to {result.seeds - 1}, {result.wall_s:.1f} s; mean +- standard deviation."]
    lines += [f"{entry.row}, {entry.column}: {entry.note}." for entry in result.entries if entry.note]
    lines += [f"not run: {row.name}: {row.reason}." for row in result.table.rows if row.reason]
    return Group(table, *lines)
