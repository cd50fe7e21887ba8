"""``python -m benchmarks.start``: processor seconds until short commands have answered, beside ``optuna --help``."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from benchmarks.command import run_command
from nasbench.cli.options import Json
from nasbench.cli.output import err, show
from nasbench_registry import UserError

NASBENCH = (sys.executable, "-c", "from nasbench.cli.app import main; main()")
AIMS_S = {"nasbench --help": 0.5, "nasbench list spaces": 0.7, "nasbench status RUN": 0.7, "import nasbench": 0.1}
"""Processor seconds that these may take."""


@dataclass(frozen=True)
class StartSpeed:
    """How long one command takes.

    Attributes:
        command: Command as it is shown.
        processor_s: User and system seconds of its processes, by round.
        wall_s: Seconds from its start to its end, by round.
        aim_s: Processor seconds that it may take; None for what it is compared with.
    """

    command: str
    processor_s: tuple[float, ...]
    wall_s: tuple[float, ...]
    aim_s: float | None


def start_speed(commands: Mapping[str, Sequence[str]], rounds: int, bar: Progress) -> list[StartSpeed]:
    """Time commands in turn, after one run of each that is not counted: it fills the caches of files and bytecode.

    Raises:
        UserError: A command failed.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    task = bar.add_task("timing", total=(rounds + 1) * len(commands))
    for number in range(rounds + 1):
        for name, words in commands.items():
            measured = _time(name, words)
            if number:
                seconds[name].append(measured)
            bar.advance(task)
    return [
        StartSpeed(name, tuple(run[0] for run in pairs), tuple(run[1] for run in pairs), AIMS_S.get(name))
        for name, pairs in seconds.items()
    ]


def _time(name: str, arguments: Sequence[str]) -> tuple[float, float]:
    """Processor seconds and wall seconds of one run."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    completed = subprocess.run(arguments, capture_output=True, text=True, check=False)
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if completed.returncode:
        raise UserError(f"{name} ended with exit code {completed.returncode}: {completed.stderr.strip()[-300:]}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall_s


def _search(folder: Path) -> None:
    """A run with 100 candidates."""
    import nasbench

    nasbench.search(
        "nasbench201",
        evaluate=lambda candidate: {"convolutions": float(str(candidate.architecture).count("conv"))},
        objectives={"convolutions": "max"},
        candidates=100,
        folder=folder,
        progress=False,
    )


def command(
    run: Annotated[
        Path | None, typer.Option(help="A run for nasbench status [a new one of 100 candidates].", show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each command is timed.")] = 7,
    json: Json = False,
) -> None:
    """Measure the processor seconds of short commands of nasbench, of optuna and of Python alone, in turn."""
    optuna = shutil.which("optuna", path=str(Path(sys.executable).parent)) or shutil.which("optuna")
    with tempfile.TemporaryDirectory(prefix="nasbench-start-") as temporary_folder:
        folder = run or Path(temporary_folder) / "run"
        if run is None:
            _search(folder)
        commands: dict[str, Sequence[str]] = {
            "python -c pass": (sys.executable, "-c", "pass"),
            "optuna --help": (optuna, "--help") if optuna else (sys.executable, "-m", "optuna.cli", "--help"),
            "nasbench --help": (*NASBENCH, "--help"),
            "nasbench list spaces": (*NASBENCH, "list", "spaces"),
            "nasbench status RUN": (*NASBENCH, "status", str(folder)),
            "import nasbench": (sys.executable, "-c", "import nasbench"),
        }
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            speeds = start_speed(commands, rounds, bar)
    table = Table(title=f"{rounds} rounds, in turn", caption="processor seconds are user and system time")
    for column in ("command", "processor s (median)", "least - most", "aim", "wall s (median)"):
        table.add_column(column, justify="left" if column == "command" else "right")
    for speed in speeds:
        table.add_row(
            speed.command,
            f"{np.median(speed.processor_s):.2f}",
            f"{min(speed.processor_s):.2f} - {max(speed.processor_s):.2f}",
            "" if speed.aim_s is None else f"{speed.aim_s:.1f}",
            f"{np.median(speed.wall_s):.2f}",
        )
    show([asdict(speed) for speed in speeds], table, as_json=json)


if __name__ == "__main__":
    run_command(command, "start")
