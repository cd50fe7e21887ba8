"""Results go to standard output, everything else to standard error."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

import typer
from rich.console import Console, RenderableType

from nasbench.storage.files import finite

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

err = Console(stderr=True, markup=False, emoji=False)

_results: list[TextIO] = []  # where `show` writes while everything else that is printed goes to standard error


def tell(text: str) -> None:
    """Print a line for people."""
    err.print(text, highlight=False, soft_wrap=True)


def typed() -> str:
    """The command as it was typed, for who wants to run it again."""
    return shlex.join(["nasbench", *sys.argv[1:]])


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Inside the block, Ctrl-C ends a command that keeps what finished, and a line says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        tell(f"stopped; nothing that finished is lost. Go on with: {typed()}")
        raise typer.Exit(1) from None


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar on standard error that vanishes; beside it how much is done and what is left, or these columns."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shown_columns = columns or (MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), BarColumn(), *shown_columns, console=err, transient=True)


def show(value: Any, table: RenderableType | str, *, as_json: bool) -> None:
    """Print one JSON document, or the table for people."""
    stream = _results[-1] if _results else sys.stdout
    if as_json:
        stream.write(json.dumps(finite(value), indent=1) + "\n")
        stream.flush()
        return
    # Wide enough for a table in a pipe; a terminal decides for itself. Names of files and layers are no markup.
    console = Console(file=stream, width=None if stream.isatty() else 160, markup=False, emoji=False)
    console.print(table)


@contextlib.contextmanager
def only_results() -> Iterator[None]:
    """Inside the block, what `show` prints reaches standard output, and nothing else does.

    Exporters and compilers print there by Python, by C++ and from processes that they start. All of it goes to standard
    error, also what they print while the program ends.
    """
    sys.stdout.flush()
    python, descriptor = sys.stdout, _descriptor(sys.stdout)
    saved = None if descriptor is None else os.dup(descriptor)
    results = python if saved is None else os.fdopen(os.dup(saved), "w", encoding="utf-8")
    _results.append(results)
    sys.stdout = sys.stderr
    if descriptor is not None:
        _point_at_errors(descriptor)
    try:
        yield
    finally:
        _results.pop()
        sys.stdout.flush()
        sys.stdout = python
        if saved is not None and descriptor is not None:
            results.close()
            os.dup2(saved, descriptor)
            os.close(saved)
            atexit.register(_point_at_errors, descriptor)  # it is the first to run of all that were registered so far


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, io.UnsupportedOperation):  # a test that collects what is printed
        return None


def _point_at_errors(descriptor: int) -> None:
    try:
        os.dup2(2, descriptor)
    except OSError:  # standard error is closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
