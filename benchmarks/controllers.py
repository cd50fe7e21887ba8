"""``python -m benchmarks.controllers``: how long search algorithms think."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from benchmarks.command import run_command
from benchmarks.controller_speed import SAMPLERS, controller_speed
from controllers import CONTROLLERS, controllers
from nasbench.cli.options import Json, SpaceOptions, read_space
from nasbench.cli.output import err, show
from nasbench_registry import UserError


def command(
    name: Annotated[
        list[str] | None, typer.Argument(help="Controllers, or module:Class of your own [all].", show_default=False)
    ] = None,
    space: Annotated[str, typer.Option(help="Name of a space, or module:Class.")] = "nasbench201",
    option: SpaceOptions = None,
    told: Annotated[str, typer.Option(help="Numbers of outcomes that they know.")] = "100,1000,10000",
    objectives: Annotated[int, typer.Option(min=1, max=4, help="Scores of an outcome.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="Cap of each cell.")] = 15.0,
    seed: Annotated[int, typer.Option(help="Random seed of everything.")] = 0,
    json: Json = False,
) -> None:
    """Measure microseconds per ask and tell of every controller, beside samplers of Optuna in the same run."""
    counts = _read_counts(told)
    search_space = read_space(space, option)
    names = name or [key for key in CONTROLLERS if objectives == 1 or controllers.find(key).multi_objective]
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=err, transient=True
    ) as bar:
        task = bar.add_task("timing", total=(len(names) + len(SAMPLERS)) * len(counts))

        def on_cell(controller: str, count: int) -> None:
            bar.update(task, description=f"{controller}, {count:,} outcomes", advance=1)

        cells = controller_speed(
            names, search_space, told=counts, objectives=objectives, cap_s=seconds, seed=seed, on_cell=on_cell
        )
    title = f"microseconds of processor time for one ask and one tell on {space}, scores: {objectives}"
    table = Table(title=f"{title}; * mostly told, not asked for")
    table.add_column("controller")
    for count in counts:
        table.add_column(f"{count:,} outcomes", justify="right")
    rows: dict[str, list[str]] = {}
    for cell in cells:
        text = cell.stopped
        if cell.us_per_ask_tell is not None:
            text = f"{cell.us_per_ask_tell:,.0f}{' *' if cell.asked < cell.told / 2 else ''}"
        rows.setdefault(cell.controller, []).append(text)
    for controller, texts in rows.items():
        table.add_row(controller, *texts)
    result = {"space": space, "objectives": objectives, "seconds": seconds, "cells": [asdict(cell) for cell in cells]}
    show(result, table, as_json=json)


def _read_counts(text: str) -> list[int]:
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        counts = []
    if not counts or counts[0] < 1:
        raise UserError(f"--told is {text!r}; give numbers of outcomes from 1, such as 100,1000.")
    return counts


if __name__ == "__main__":
    run_command(command, "controllers")
