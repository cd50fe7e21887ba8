"""``python -m benchmarks.spaces``: how fast architectures are drawn, changed and encoded."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.command import run_command
from benchmarks.space_speed import OPERATIONS, space_speed
from nasbench.cli.options import Json, read_space
from nasbench.cli.output import err, show
from search_spaces import SPACES


def command(
    space: Annotated[list[str] | None, typer.Argument(help="Names, or module:Class [all].", show_default=False)] = None,
    archs: Annotated[int, typer.Option(min=20, help="Architectures sampled and encoded in one go.")] = 100_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often each operation is timed.")] = 5,
    seed: Annotated[int, typer.Option(help="Random seed of the samples.")] = 0,
    json: Json = False,
) -> None:
    """Measure how many architectures a second each space samples, mutates, merges and encodes."""
    names = space or list(SPACES)
    spaces = {name: read_space(name) for name in names}
    speeds = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("timing", total=len(names))
        for name, search_space in spaces.items():
            bar.update(task, description=name)
            speeds.append(space_speed(search_space, archs=archs, rounds=rounds, seed=seed))
            bar.advance(task)
    table = Table(title=f"architectures a second, one thread, median of {rounds} rounds of {max(2, archs // 10):,}")
    for column in ("space", "decisions", "size", *OPERATIONS, f"sample and encode {archs:,}"):
        table.add_column(column, justify="left" if column == "space" else "right")
    result = []
    for speed, search_space in zip(speeds, spaces.values(), strict=True):
        size = f"{search_space.size:,}" if search_space.size < 1e9 else f"{search_space.size:.2e}"
        rates = [f"{speed.per_second[name]:,.0f}" for name in OPERATIONS]
        table.add_row(speed.space, str(len(search_space.decisions)), size, *rates, f"{speed.sample_and_encode_s:.1f} s")
        result.append(
            {
                "space": speed.space,
                "decisions": len(search_space.decisions),
                "size": search_space.size,
                "per_second": speed.per_second,
                "sample_and_encode_s": speed.sample_and_encode_s,
                "archs": speed.archs,
                "rounds": speed.rounds,
            }
        )
    show(result, table, as_json=json)


if __name__ == "__main__":
    run_command(command, "spaces")
