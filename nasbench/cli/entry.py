"""From a command line to an exit code."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from nasbench.cli.output import tell
from nasbench.storage.disk_errors import disk_error, is_full
from nasbench_registry import UserError, WorkFailed


def run_app(app: typer.Typer, name: str) -> NoReturn:
    """Exit 0 = done, 1 = the work failed, 2 = bad usage or configuration."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    try:
        app(prog_name=name)
    except UserError as error:
        tell(f"error: {error}")
        sys.exit(1 if isinstance(error, WorkFailed) else 2)
    except OSError as error:
        sentence = disk_error(error)
        if sentence is None:
            raise
        tell(f"error: {sentence}")
        sys.exit(1 if is_full(error) else 2)
    sys.exit(0)
