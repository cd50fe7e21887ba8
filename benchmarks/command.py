"""Functions that the commands of this folder share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import typer

from nasbench.cli.entry import run_app
from nasbench.cli.options import import_from


def run_command(command: Callable[..., None], module: str) -> NoReturn:
    """Run a function as the command ``python -m benchmarks.MODULE``; exit codes as those of ``nasbench``."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(command)
    import_from()  # module:Class in the working folder
    run_app(app, f"python -m benchmarks.{module}")


def child_environment() -> dict[str, str]:
    """The variables of a child process that finds the package `benchmarks` from whatever folder it starts in."""
    folders = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
