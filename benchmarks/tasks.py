"""``python -m benchmarks.tasks``: what the examples of the documentation reach, and what int8 costs them, by seed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.command import run_command
from benchmarks.task_runs import EXAMPLES, run_example
from nasbench.cli.options import Json
from nasbench.cli.output import err, show
from nasbench.objectives.statistics import Spread
from nasbench_registry import one_of


def command(
    example: Annotated[
        list[str] | None, typer.Argument(help=f"{' | '.join(EXAMPLES)} [all].", show_default=False)
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=2, help="Number of seeds of search, training and compression, from 0 on.")
    ] = 5,
    json: Json = False,
) -> None:
    """Search, compress and compile each example with several seeds; mean and 95 % t interval of the test metrics.

    The last column is of the differences seed by seed, of the searched network in float and the artefact in int8.
    """
    names = example or list(EXAMPLES)
    for name in names:
        one_of("example", name, EXAMPLES)
    table = Table(title=f"test data, mean and 95 % interval over {seeds} seeds")
    for column in ("example", "metric", "searched, float", "compressed, int8", "difference"):
        table.add_column(column, justify="left" if column in ("example", "metric") else "right")
    rows = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar, tempfile.TemporaryDirectory() as folder:
        task = bar.add_task("searching", total=seeds * len(names))
        for name in names:
            runs = []
            for seed in range(seeds):
                bar.update(task, description=f"{name}, seed {seed}")
                runs.append(run_example(EXAMPLES[name], seed, Path(folder) / f"{name}-{seed}"))
                bar.advance(task)
            for metric in runs[0][0]:
                before, after = ([float(run[stage][metric]) for run in runs] for stage in (0, 1))
                spreads = [
                    Spread.of(values)
                    for values in (
                        before,
                        after,
                        [int8_value - float_value for int8_value, float_value in zip(after, before, strict=True)],
                    )
                ]
                table.add_row(name, metric, *(_text(spread) for spread in spreads))
                rows.append(
                    {"example": name, "metric": metric, "seeds": seeds, "float": before, "int8": after}
                    | {
                        key: {"mean": spread.mean, "half_width": spread.half_width}
                        for key, spread in zip(("float_mean", "int8_mean", "difference"), spreads, strict=True)
                        if spread is not None
                    }
                )
    show(rows, table, as_json=json)


def _text(spread: Spread | None) -> str:
    assert spread is not None and spread.half_width is not None, "there are two seeds at least"
    return f"{spread.mean:.2f} +- {spread.half_width:.2f}"


if __name__ == "__main__":
    run_command(command, "tasks")
