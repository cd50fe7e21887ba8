"""From a command line to an exit code."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from nasbench.cli.output import err
from nasbench_registry import UserError


def run_app(app: typer.Typer, name: str) -> NoReturn:
    """Exit 0 = done, 1 = the work failed, 2 = bad usage or configuration."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    try:
        app(prog_name=name)
    except UserError as error:
        err.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    sys.exit(0)
