"""``python -m benchmarks.engine``: what orchestration costs, beside Ray Tune, Optuna and a plain loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.cheap_speed import CONTROLLERS, SPACES, WAYS as CHEAP_WAYS, WINDOW, Cell, cells, measure
from benchmarks.command import run_command
from benchmarks.engine_speed import EngineSpeed, engine_speed
from benchmarks.statistics import text
from nasbench.cli.options import Json, Override, import_from
from nasbench.cli.output import show, tell
from nasbench.experiment.loading import load_experiment
from nasbench.objectives.statistics import Spread
from nasbench.storage.files import write_json
from nasbench_registry import one_of

LABELS = {"engine": "nasbench", "ray_tune": "Ray Tune alone", "loop": "loop"}
COLUMNS = {
    "candidates_per_hour": ("candidates / h", 0),
    "utilization_pct": ("utilization %", 1),
    "training_s": ("training s / candidate", 2),
    "between_ms": ("ms between candidates", 0),
    "tail_s": ("idle s at the end", 1),
    "startup_s": ("start-up s", 1),
}


def command(
    experiment: Annotated[Path, typer.Argument(help="What is trained.")] = Path("experiments/engine.yaml"),
    candidates: Annotated[str, typer.Option(help="Evaluated in each way; several numbers with --evaluator.")] = "12",
    evaluator: Annotated[
        str | None,
        typer.Option(help="constant: one that costs nothing, in place of a training.", show_default=False),
    ] = None,
    spaces: Annotated[str, typer.Option(help="With --evaluator: spaces that are searched.")] = ",".join(SPACES),
    controllers: Annotated[str, typer.Option(help="With --evaluator: controllers that search.")] = ",".join(
        CONTROLLERS
    ),
    ways: Annotated[str, typer.Option(help="With --evaluator: ways in which the searches run.")] = ",".join(CHEAP_WAYS),
    minutes: Annotated[
        float, typer.Option(min=0.01, help="With --evaluator: minutes after which a search is ended.")
    ] = 5.0,
    workers: Annotated[int, typer.Option(min=1, help="Workers of the engine and of Ray Tune; the loop has one.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Each with all three ways, in turn.")] = 3,
    run: Annotated[
        Path | None, typer.Option(help="Folder for the runs [runs/engine-TIME].", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the seed of the file.", show_default=False)] = None,
    override: Override = None,
    json: Json = False,
) -> None:
    """Evaluate the same candidates by the engine, by Ray Tune alone and by a loop; show what orchestration costs."""
    counts = [_count(text) for text in candidates.split(",")]
    if evaluator is not None:
        one_of("evaluator of this benchmark", evaluator, ("constant",))
        names = (spaces.split(","), controllers.split(","), ways.split(","))
        _cheap(cells(counts, *names, workers=workers, minutes=minutes), json)
        return
    if len(counts) > 1:
        raise typer.BadParameter("several numbers of candidates need --evaluator constant.", param_hint="--candidates")
    loaded = load_experiment(experiment, override or [], seed)
    code_folder = experiment.resolve().parent
    import_from(code_folder)
    folder = run or Path("runs") / f"engine-{time.strftime('%Y%m%d-%H%M%S')}"
    speed = engine_speed(
        loaded,
        folder,
        candidates=counts[0],
        workers=workers,
        rounds=rounds,
        code_folder=code_folder,
        on_event=tell,
    )
    report = {"experiment": loaded.model_dump(mode="json"), **speed.to_json()}
    write_json(folder / "benchmark.json", report)
    show(report, _table(speed), as_json=json)


def _table(speed: EngineSpeed) -> Table:
    overhead, overhead_ms = Spread.of(speed.overhead_pct), Spread.of(speed.overhead_ms_per_candidate)
    same = f"{speed.candidates - len(speed.different)} of {speed.candidates}"
    table = Table(
        title=f"{speed.candidates} candidates with {speed.workers} workers, {len(speed.rounds)} rounds (mean +- std)",
        caption=(
            f"orchestration overhead of nasbench over Ray Tune alone: {text(overhead, 1)} % of wall time, "
            f"{text(overhead_ms, 0)} ms per candidate. Wall time is from the beginning of the first candidate on a "
            f"worker to the last result in the driver; start-up of Ray and its workers comes before that and is shown "
            f"apart. {same} candidates were trained to the same loss, to the bit, in all passes."
        ),
    )
    table.add_column("evaluated by")
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right")
    for way, label in LABELS.items():
        table.add_row(label, *(text(speed.spread(way, name), decimals) for name, (_, decimals) in COLUMNS.items()))
    return table


def _count(text: str) -> int:
    """A number of candidates, as it is typed."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is no number from 1.", param_hint="--candidates")
    return int(text)


def _cheap(table_cells: Sequence[Cell], json: bool) -> None:
    """Run the cells of the table in turn; the row of each is printed as it ends."""
    rows = []
    table = Table(
        title="candidates a second where evaluating costs nothing",
        caption=(
            f"first and last: of the first and the last {WINDOW:,} candidates. CPU: candidates a second of processor "
            f"time of the process of the search, which other work on the machine slows down less; last / first is of "
            f"these. Memory is the most of that process; open is what another process takes until it has all "
            f"candidates and the controller again. Optuna and Ray Tune search at random."
        ),
    )
    headings = (
        "way",
        "space",
        "controller",
        "candidates",
        "a second",
        "first",
        "last",
        "CPU",
        "last / first",
        "MiB",
        "open s",
        "open CPU s",
        "MB",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("way", "space", "controller") else "right")
    for cell in table_cells:
        row = measure(cell)
        rows.append(row)
        labels = (cell.way, cell.space, cell.controller, f"{row.done:,}")
        speeds = (row.per_s, row.first_per_s, row.last_per_s, row.per_cpu_s, row.last_to_first)
        numbers = (*speeds, row.peak_mib, row.open_s, row.open_cpu_s, row.disk_mb)
        texts = ["" if number is None else f"{number:,.3g}" if number < 100 else f"{number:,.0f}" for number in numbers]
        tell(" ".join((*labels, *(text or "-" for text in texts))))
        table.add_row(*labels, *texts)
    show({"cells": [row.to_json() for row in rows]}, table, as_json=json)


if __name__ == "__main__":
    run_command(command, "engine")
