"""Results go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console, RenderableType

from nasbench.storage.files import finite

err = Console(stderr=True)


def tell(text: str) -> None:
    """Print a line for people."""
    err.print(text, markup=False, highlight=False, soft_wrap=True)


def show(value: Any, table: RenderableType | str, *, as_json: bool) -> None:
    """Print one JSON document, or the table for people."""
    if as_json:
        sys.stdout.write(json.dumps(finite(value), indent=1) + "\n")
        return
    # Wide enough for a table in a pipe; a terminal decides for itself.
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
