"""The command line: ``nasbench COMMAND``."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from nasbench.cli import (
    benchmark,
    benchmark_controllers,
    benchmark_engine,
    benchmark_schedulers,
    calibrate,
    chaos,
    compare,
    data,
    draw,
    listing,
    matrix,
    model,
    profile,
    reproduce,
    search,
    sensitivity,
    status,
    train,
    tune,
    zoo,
)
from nasbench.cli.output import err
from nasbench_registry import UserError

app = typer.Typer(
    name="nasbench",
    help="Neural architecture search and model compression, rewarded on the artefact that is deployed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(search.search)
app.command()(search.resume)
app.command()(status.status)
app.command()(search.report)
app.command()(compare.compare)
app.command()(profile.profile)
app.command()(calibrate.calibrate)
app.command()(train.train)
app.command()(model.compress)
app.command()(model.export)
app.command()(matrix.matrix)
app.command()(tune.tune)
app.command("sensitivity")(sensitivity.sensitivity_command)
app.command()(benchmark.benchmark)
app.command()(reproduce.reproduce)
app.add_typer(data.app, name="data")
app.command("list")(listing.list_)
app.command()(zoo.blocks)
app.command()(draw.draw)
app.command()(zoo.count)
app.command("benchmark-spaces")(zoo.benchmark_spaces)
app.command("benchmark-controllers")(benchmark_controllers.benchmark_controllers)
app.command("benchmark-engine")(benchmark_engine.benchmark_engine)
app.command("benchmark-schedulers")(benchmark_schedulers.benchmark_schedulers)
app.command()(chaos.chaos)
app.command("check-space")(listing.check_space_command)


def main() -> NoReturn:
    """Exit 0 = done, 1 = the work failed, 2 = bad usage or configuration."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    try:
        app()
    except UserError as error:
        err.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    sys.exit(0)
