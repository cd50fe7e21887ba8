"""``python -m benchmarks.supernet``: seconds until candidates are scored with the weights of an elastic network."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from torch import set_num_threads

import nasbench as nb
from benchmarks.command import run_command
from nasbench.cli.options import Json
from nasbench.cli.output import show
from search_spaces import get_space


def command(
    candidates: Annotated[int, typer.Option(min=1, help="Number of candidates.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Candidates at a time; more than one run under Ray.")] = 2,
    data: Annotated[str, typer.Option(help="Name of a data set of images.")] = "cifar10",
    network: Annotated[str, typer.Option(help="Network of the space `resnet`.")] = "basic-3,3,3-16,32,64",
    precision: Annotated[str, typer.Option(help="Number type of candidates: fp32 or bf16.")] = "fp32",
    json: Json = False,
) -> None:
    """Search an elastic network at random: each candidate is cut, its batch norms calibrated, and it is validated.

    The seconds are those of the search, from the start of Ray to the last candidate; what comes before, making the
    network elastic, is not counted. The weights are random ones, for the seconds do not depend on them.
    """
    set_num_threads(1)
    problem = nb.image_classification(data, precision=precision)
    space = get_space("resnet", shortcut="projection")
    elastic = nb.elastic(space.build(space.parse(network), problem.task), problem)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        result = nb.search(
            elastic.space,
            evaluate={"name": "supernet", "check": 0},
            problem=problem,
            objectives={"val_acc_pct": "max"},
            candidates=candidates,
            workers=workers,
            folder=Path(folder) / "run",
        )
        seconds = time.perf_counter() - began
        scored = result.candidates
    row = {
        "network": network,
        "candidates": len(scored),
        "workers": workers,
        "precision": precision,
        "seconds": seconds,
        "seconds_of_evaluations": float(scored["training_seconds"].sum()),
    }
    table = Table(title=f"candidates with the weights of an elastic {network} on {data}, {precision}")
    for column in ("candidates", "workers", "seconds", "a candidate"):
        table.add_column(column, justify="right")
    table.add_row(str(len(scored)), str(workers), f"{seconds:.1f}", f"{seconds / len(scored):.3f} s")
    show([row], table, as_json=json)


if __name__ == "__main__":
    run_command(command, "supernet")
