"""The command line: ``nasbench COMMAND``."""

from __future__ import annotations

from typing import NoReturn

import typer

from nasbench.cli import (
    benchmark,
    calibrate,
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
from nasbench.cli.entry import run_app

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
app.command("check-space")(listing.check_space_command)


def main() -> NoReturn:
    """Exit 0 = done, 1 = the work failed, 2 = bad usage or configuration."""
    run_app(app, "nasbench")
