"""``python -m benchmarks.promotion``: what Hyperband saves if promoted candidates go on from their checkpoint."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import set_num_threads

import nasbench as nb
from benchmarks.command import run_command
from controllers import get_controller
from controllers.hyperband import Hyperband
from nasbench.cli.options import Json
from nasbench.cli.output import err, show
from nasbench.objectives.statistics import Spread
from nasbench.storage.checkpoints import LOG
from nasbench_registry import one_of
from search_spaces import get_space

SPACE: dict[str, Any] = {"name": "mobile", "widths": [8, 16], "layers": 1}
WAYS = ("continue", "anew")
CONTROLLERS = ("hyperband", "bohb")


def command(
    controller: Annotated[str, typer.Option(help=" | ".join(CONTROLLERS))] = "hyperband",
    data: Annotated[str, typer.Option(help="Name of a data set.")] = "digits",
    epochs: Annotated[int, typer.Option(min=3, help="Epochs of the last rung.")] = 9,
    seeds: Annotated[int, typer.Option(min=2, help="Searches of each way, with the seeds from 0 on.")] = 10,
    json: Json = False,
) -> None:
    """Search one round of brackets both ways, on small networks of the space `mobile`, on one thread.

    A row shows the best validation accuracy of a fully trained candidate, and the epochs and seconds in the training
    loop. Intervals are 95 % t intervals over the seeds; the last row is of the differences seed by seed.
    """
    one_of("controller", controller, CONTROLLERS)
    set_num_threads(1)
    rows: list[dict[str, Any]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar, tempfile.TemporaryDirectory() as folder:
        task = bar.add_task("searching", total=seeds * len(WAYS))
        for seed in range(seeds):
            for way in WAYS:
                bar.update(task, description=f"seed {seed}, {way}")
                rows.append(_run(controller, way, data, epochs, seed, Path(folder) / f"{way}-{seed}"))
                bar.advance(task)
    table = Table(title=f"one round of {controller} on {data}, {seeds} seeds")
    names = ("val_acc_pct", "epochs_trained", "training_s")
    for column in ("promotion", "best val acc, %", "epochs trained", "seconds"):
        table.add_column(column, justify="left" if column == "promotion" else "right")
    for way in WAYS:
        table.add_row(way, *(_text([row[name] for row in rows if row["promotion"] == way]) for name in names))
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    table.add_row("difference", *(_text([continued[name] - anew[name] for continued, anew in pairs]) for name in names))
    show(rows, table, as_json=json)


def _run(controller: str, way: str, data: str, epochs: int, seed: int, folder: Path) -> dict[str, Any]:
    hyperband = get_controller("hyperband", get_space(**SPACE), seed=0, max_epochs=epochs)
    assert isinstance(hyperband, Hyperband)
    result = nb.search(
        SPACE,
        problem=nb.image_classification(data, epochs=epochs),
        controller={"name": controller, "promotion": way},
        objectives={"val_acc_pct": "max"},
        candidates=sum(count for s in range(hyperband.s_max + 1) for count, _ in hyperband.rungs(s)),
        folder=folder,
        seed=seed,
        progress=False,
    )
    candidates = result.candidates
    return {
        "promotion": way,
        "seed": seed,
        "val_acc_pct": float(candidates.loc[candidates["epochs"] == epochs, "val_acc_pct"].max()),
        "epochs_trained": len((folder / "checkpoints" / LOG).read_text(encoding="utf-8").splitlines()),
        "training_s": float(candidates["training_seconds"].sum()),
    }


def _text(values: list[float]) -> str:
    spread = Spread.of(values)
    assert spread is not None, "there are two seeds at least"
    return f"{spread.mean:.2f}" if spread.half_width is None else f"{spread.mean:.2f} +- {spread.half_width:.2f}"


if __name__ == "__main__":
    run_command(command, "promotion")
