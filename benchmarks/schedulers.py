"""``python -m benchmarks.schedulers``: what early stopping gains in the same time."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.command import run_command
from benchmarks.scheduler_gain import SchedulerGain, scheduler_gain
from benchmarks.statistics import text
from nasbench.cli.options import Json, Override, import_from
from nasbench.cli.output import err, show, tell
from nasbench.experiment.loading import load_experiment
from nasbench.storage.files import write_json


def command(
    experiment: Annotated[
        Path, typer.Argument(help="What is searched, such as experiments/asha.yaml.", show_default=False)
    ],
    schedulers: Annotated[
        str, typer.Option(help="Names, with none for the searches that stop nothing early.")
    ] = "none,asha,median_stopping,hyperband",
    seeds: Annotated[int, typer.Option(min=1, help="Searches with each scheduler.")] = 5,
    minutes: Annotated[float, typer.Option(min=0.01, help="Minutes of each search.")] = 5.0,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the runs [runs/schedulers-TIME]; one that is there is completed.", show_default=False
        ),
    ] = None,
    override: Override = None,
    json: Json = False,
) -> None:
    """Search for the same time with and without schedulers that stop candidates early; compare what was found."""
    loaded = load_experiment(experiment, override or [])
    code_folder = experiment.resolve().parent
    import_from(code_folder)
    folder = run or Path("runs") / f"schedulers-{time.strftime('%Y%m%d-%H%M%S')}"
    names = [name.strip() for name in schedulers.split(",") if name.strip()]
    try:
        gains = scheduler_gain(
            loaded,
            folder,
            schedulers=names,
            seeds=seeds,
            minutes=minutes,
            code_folder=code_folder,
            on_event=tell,
        )
    except KeyboardInterrupt:
        arguments = [*sys.argv[1:], *(() if run else ("--run", str(folder)))]
        resume_command = shlex.join(["python", "-m", "benchmarks.schedulers", *arguments])
        err.print(
            f"stopped; nothing that finished is lost. Go on with: {resume_command}", soft_wrap=True, highlight=False
        )
        raise typer.Exit(1) from None
    report = {"experiment": loaded.model_dump(mode="json"), **gains.to_json()}
    write_json(folder / "benchmark.json", report)
    show(report, _table(gains), as_json=json)


def _table(gains: SchedulerGain) -> Table:
    walls = [search.wall_s / 60 for search in gains.searches]
    table = Table(
        title=f"searches of {gains.minutes:g} minutes, {len(gains.seeds)} seeds (mean +- std)",
        caption=(
            f"gain: best accuracy minus that without a scheduler, seed by seed, +- its standard error. After "
            f"{gains.minutes:g} minutes no candidate is handed out, and those that run are finished: the searches took "
            f"{min(walls):.2f} to {max(walls):.2f} minutes."
        ),
    )
    table.add_column("scheduler")
    for heading in ("best val. acc. %", "gain", "candidates", "stopped early", "epochs", "utilization %", "minutes"):
        table.add_column(heading, justify="right")
    for name in gains.schedulers:
        gain = gains.gain(name)
        error = None if gain is None else gain.standard_error
        table.add_row(
            name,
            text(gains.spread(name, "best_val_acc_pct"), 2),
            "-" if gain is None else f"{gain.mean:+.2f}" + ("" if error is None else f" +- {error:.2f}"),
            *(text(gains.spread(name, attribute), 0) for attribute in ("candidates", "stopped", "epochs")),
            text(gains.spread(name, "utilization_pct"), 1),
            text(gains.spread(name, "wall_s"), 2, factor=1 / 60),
        )
    return table


if __name__ == "__main__":
    run_command(command, "schedulers")
