"""What commands about a single space share: how it, its options and its task are given."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nasbench.experiment.loading import key_value
from nasbench_registry import UserError
from search_spaces import SearchSpace, Task, get_space

Space = Annotated[str, typer.Argument(help="module:Class, or the name of a space.", show_default=False)]
InputShape = Annotated[str, typer.Option(help="C,H,W of the images networks are built for.")]
Classes = Annotated[int, typer.Option(help="Number of classes.")]
SpaceOptions = Annotated[
    list[str] | None, typer.Option("--option", help="key=value, an option of the space: --option layers=4")
]


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


def read_space(name: str, options: Sequence[str] | None = None) -> SearchSpace:
    """The space of that name, also one in the working folder, with options written key=value."""
    import_from()
    return get_space(name, **dict(key_value(text, "--option", "layers=4") for text in options or ()))


def space_and_task(
    space: str, options: Sequence[str] | None, input_shape: str, classes: int
) -> tuple[SearchSpace, Task]:
    """The space and the task that a command names; UserError if there are none such."""
    task = Task(read_shape(input_shape), classes)
    return read_space(space, options), task
