"""Options that several commands share, and functions that read their values."""

from __future__ import annotations

import json as json_
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasbench.cli.output import only_results
from nasbench.storage.accept import ACCEPT
from nasbench_registry import UserError
from nasbench_registry.files import key_value

if TYPE_CHECKING:
    from search_spaces import Architecture, SearchSpace, Task

Space = Annotated[str, typer.Argument(help="module:Class, or the name of a space.", show_default=False)]
InputShape = Annotated[str, typer.Option(help="C,H,W of the images networks are built for.")]
Classes = Annotated[int, typer.Option(help="Number of classes.")]
SpaceOptions = Annotated[
    list[str] | None, typer.Option("--option", help="key=value, an option of the space: --option layers=4")
]
Override = Annotated[list[str] | None, typer.Option("-o", "--override", help="key=value, dotted: -o training.epochs=2")]
Run = Annotated[str, typer.Argument(help="The folder of a run.", show_default=False)]
Model = Annotated[Path, typer.Argument(help="A model folder, such as RUN/survivors/1/searched.", show_default=False)]


def _only_results_if(context: typer.Context, value: bool) -> bool:
    if value and not context.resilient_parsing:
        context.with_resource(only_results())
    return value


Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document and nothing else.", is_eager=True, callback=_only_results_if),
]
"""The option of every command with a result: until the command ends, standard output belongs to the document."""


def _accept(context: typer.Context, value: bool) -> bool:
    """Accept changed code in this process and in those that it starts, until the command ends."""
    if value and not context.resilient_parsing:
        before = os.environ.get(ACCEPT)
        os.environ[ACCEPT] = "1"
        context.call_on_close(lambda: os.environ.pop(ACCEPT) if before is None else None)
    return value


AcceptChangedCode = Annotated[
    bool,
    typer.Option(
        "--accept-changed-code",
        help="Go on although code that builds or scores networks was edited since.",
        callback=_accept,
    ),
]
"""The option of every command that loads networks which were stored."""


def import_from(*folders: Path) -> None:
    """Let ``module:Class`` be found in these folders and in the working folder."""
    for folder in (*folders, Path.cwd()):
        if folder.is_dir() and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def read_shape(text: str) -> tuple[int, int, int]:
    """The numbers of ``C,H,W``; UserError if it is something else."""
    try:
        channels, height, width = (int(number) for number in text.split(","))
    except ValueError:
        raise UserError(f"--input-shape is {text!r}; give channels,height,width, such as 3,32,32.") from None
    return channels, height, width


def read_numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """The numbers between commas; None if there is no text, and UserError if they are none."""
    try:
        return None if text is None else tuple(float(number) for number in text.split(","))
    except ValueError:
        raise UserError(f"{option} is {text!r}; give numbers separated by commas, such as 0.485,0.456,0.406.") from None


def read_space(name: str, options: Sequence[str] | None = None) -> SearchSpace:
    """The space of that name, with options written key=value."""
    from search_spaces import get_space

    return get_space(name, **dict(key_value(text, "--option", "layers=4") for text in options or ()))


def space_and_task(
    space: str, options: Sequence[str] | None, input_shape: str, classes: int
) -> tuple[SearchSpace, Task]:
    """The space and the task that a command names; UserError if there are none such."""
    from search_spaces import Task

    task = Task(read_shape(input_shape), classes)
    return read_space(space, options), task


def read_architecture(space: SearchSpace, text: str) -> Architecture:
    """The architecture that a text names: by its notation, by its picks, or at random.

    Raises:
        UserError: the text names none.
    """
    import numpy as np

    name, colon, seed = text.partition(":")
    if name == "random" and not colon:
        return space.sample(np.random.default_rng(0))
    if name == "random":
        if not seed.isdecimal():
            raise UserError(f"{text!r} has no seed that is a number from 0; write random or, for example, random:3.")
        return space.sample(np.random.default_rng(int(seed)))
    try:
        picks = json_.loads(text)
    except json_.JSONDecodeError:
        return space.parse(text)
    if isinstance(picks, list) and all(type(pick) is int for pick in picks):
        return space.architecture(picks)
    return space.parse(text)
