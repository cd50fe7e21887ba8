"""data: published measurements, brought into the data folder and checked there."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import DownloadColumn, TransferSpeedColumn
from rich.table import Table

from nasbench.cli.options import Json
from nasbench.cli.output import err, progress_bar, show
from nasbench.data.folders import data_folders

data = typer.Typer(name="data", help="Published measurements: list, fetch, verify.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of a source, see: nasbench data list.", show_default=False)]


@data.command("list")
def list_(json: Json = False) -> None:
    """List what can be fetched, and what is at hand."""
    from nasbench.tables.sources import SOURCES

    rows: list[dict[str, Any]] = []
    for source in SOURCES.values():
        folder = source.found()
        rows.append(
            {
                "name": source.name,
                "summary": source.summary,
                "source": source.origin,
                "licence": source.licence,
                "files": len(source.files),
                "at_hand": None if folder is None else str(folder / source.paths[0]),
            }
        )
    table = Table(title=f"data folder: {data_folders()[0]}")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("no" if value is None else str(value) for value in row.values()))
    show(rows, table, as_json=json)


@data.command()
def fetch(
    name: Name,
    mirror: Annotated[
        Path | None,
        typer.Option(help="Folder with the published files, in place of the network.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Download published files, check their SHA-256, and put them into the data folder."""
    from nasbench.tables.sources import FetchError, fetch as bring, get_source

    source = get_source(name)
    with progress_bar(DownloadColumn(), TransferSpeedColumn()) as bar:
        task = bar.add_task(name, total=None)

        def on_bytes(file: str, count: int) -> None:
            bar.update(task, description=file, advance=count)

        try:
            written = bring(source, mirror=mirror, on_bytes=on_bytes)
        except FetchError as error:
            err.print(f"error: {error}", highlight=False, soft_wrap=True)
            raise typer.Exit(1) from None
    lines = [f"{name}: {len(written)} file(s) written", *map(str, written)]
    show({"name": name, "files": [str(path) for path in written]}, "\n".join(lines), as_json=json)


@data.command()
def verify(name: Name, json: Json = False) -> None:
    """Check the files of a source in the data folder; for a table also the facts about it; say time and memory."""
    from nasbench.tables.sources import get_source, verify as check

    source = get_source(name)
    before, started = _memory_mib(), time.perf_counter()
    problems = {str(path): problem for path, problem in check(source).items()}
    seconds, peak = time.perf_counter() - started, _memory_mib()
    sound = not any(problems.values())
    result: dict[str, Any] = {"name": name, "sound": sound, "files": problems, "seconds": seconds}
    result |= {"memory_before_mib": before, "peak_memory_mib": peak}
    lines = [f"{path}: {problem or 'sound'}" for path, problem in problems.items()]
    lines.append(
        f"read and checked in {seconds:.2f} s; the process needed {peak:.0f} MiB at most, {before:.0f} MiB before that."
    )
    show(result, "\n".join(lines), as_json=json)
    if not sound:
        raise typer.Exit(1)


def _memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS, in KiB elsewhere
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
