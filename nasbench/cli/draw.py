"""draw: an architecture as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from nasbench.cli.options import Classes, InputShape, Json, Space, SpaceOptions, read_architecture, space_and_task
from nasbench.cli.output import show
from nasbench.storage.files import write_text
from nasbench_registry import UserError


def draw(
    space: Space,
    architecture: Annotated[
        str,
        typer.Argument(
            metavar="ARCH",
            help="Architecture in the notation of the space, or a JSON list of picks, or random, or random:SEED.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, ending in .svg.", show_default=False)],
    input_shape: InputShape = "3,32,32",
    classes: Classes = 10,
    option: SpaceOptions = None,
    json: Json = False,
) -> None:
    """Draw an architecture of a space as SVG."""
    from nasbench.costs.cost import counts
    from nasbench.drawing.svg import svg

    if out.suffix.lower() != ".svg":
        raise UserError(f"{out} does not end in .svg; a drawing is written as SVG, so give a name such as drawing.svg.")
    search_space, task = space_and_task(space, option, input_shape, classes)
    arch = read_architecture(search_space, architecture)
    text = search_space.format(arch)
    write_text(out, svg(search_space.diagram(arch, task), title=f"{search_space.name}: {text}"))
    counted = counts(search_space.build(arch, task), task)
    result = {
        "file": str(out),
        "space": space,
        "architecture": text,
        "params": counted.params,
        "macs": counted.macs,
    }
    sentence = f"{out}: {text}\n{counted.params:,} parameters, {counted.macs:,} MACs at {input_shape}."
    show(result, Text(sentence), as_json=json)  # an architecture is no markup
