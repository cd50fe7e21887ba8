"""``python -m benchmarks.engine``: what the orchestration of a search costs, beside Ray Tune alone and a plain loop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.command import run_command
from benchmarks.engine_speed import EngineSpeed, engine_speed
from benchmarks.statistics import text
from nasbench.cli.options import Json, Override, import_from
from nasbench.cli.output import show, tell
from nasbench.experiment.loading import load_experiment
from nasbench.objectives.statistics import Spread
from nasbench.storage.files import write_json

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
    candidates: Annotated[int, typer.Option(min=1, help="Evaluated in each way, in each round.")] = 12,
    workers: Annotated[int, typer.Option(min=1, help="Of the engine and of Ray Tune; the loop has one.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Each with all three ways, in turn.")] = 3,
    run: Annotated[
        Path | None, typer.Option(help="Folder for the runs [runs/engine-TIME].", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the seed of the file.", show_default=False)] = None,
    override: Override = None,
    json: Json = False,
) -> None:
    """Evaluate the same candidates by the engine, by Ray Tune alone and by a loop; show what orchestration costs."""
    asked = load_experiment(experiment, override or [], seed)
    code_folder = experiment.resolve().parent
    import_from(code_folder)
    folder = run or Path("runs") / f"engine-{time.strftime('%Y%m%d-%H%M%S')}"
    found = engine_speed(
        asked,
        folder,
        candidates=candidates,
        workers=workers,
        rounds=rounds,
        code_folder=code_folder,
        on_event=tell,
    )
    told = {"experiment": asked.model_dump(mode="json"), **found.to_json()}
    write_json(folder / "benchmark.json", told)
    show(told, _table(found), as_json=json)


def _table(found: EngineSpeed) -> Table:
    overhead, each = Spread.of(found.overhead_pct), Spread.of(found.overhead_ms_per_candidate)
    same = f"{found.candidates - len(found.different)} of {found.candidates}"
    table = Table(
        title=f"{found.candidates} candidates with {found.workers} workers, {len(found.rounds)} rounds (mean +- std)",
        caption=(
            f"orchestration overhead of nasbench over Ray Tune alone: {text(overhead, 1)} % of wall time, "
            f"{text(each, 0)} ms per candidate. Wall time is from the beginning of the first candidate on a worker to "
            f"the last result in the driver; start-up of Ray and its workers comes before that and is shown apart. "
            f"{same} candidates were trained to the same loss, to the bit, in all passes."
        ),
    )
    table.add_column("evaluated by")
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right")
    for way, label in LABELS.items():
        table.add_row(label, *(text(found.spread(way, name), decimals) for name, (_, decimals) in COLUMNS.items()))
    return table


if __name__ == "__main__":
    run_command(command, "engine")
