"""The drawings of the survivors of a run, for its report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nasbench.drawing.svg import operation_colours, svg
from nasbench.models import read_description
from nasbench.storage.code_digest import changes, code_digests
from nasbench.storage.files import write_text
from nasbench_registry import UserError
from search_spaces import Graph, Task, get_space

DRAWING = "architecture.svg"


def draw_survivors(root: Path, survivors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write a drawing of every survivor beside its stages; an operation has one colour in all of them.

    Args:
        root: Folder of the run.
        survivors: Survivors as the report describes them.

    Returns:
        The survivors with two more keys: `drawing`, a path relative to `root`, and `drawing_error`, why there is none;
        one of the two is None.
    """
    described: list[dict[str, Any]] = []
    drawn: list[tuple[Path, str, list[Graph]]] = []
    for survivor in survivors:
        file = root / "survivors" / str(survivor["rank"]) / DRAWING
        title = f"Survivor {survivor['rank']}, candidate {survivor['candidate']}"
        try:
            graphs = _graphs(root / survivor["stages"][0]["artefact"])
            svg(graphs)  # a graph may turn out not to be one
        except Exception as error:  # a user's own diagram() may fail in any way; the report must not be lost
            reason = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
            file.unlink(missing_ok=True)
            described.append(survivor | {"drawing": None, "drawing_error": reason})
        else:
            drawn.append((file, title, graphs))
            described.append(survivor | {"drawing": file.relative_to(root).as_posix(), "drawing_error": None})
    colours = operation_colours(graph for _, _, graphs in drawn for graph in graphs)
    for file, title, graphs in drawn:
        write_text(file, svg(graphs, title=title, colours=colours))
    return described


def _graphs(folder: Path) -> list[Graph]:
    """The graphs of the architecture of a stored model, for the images that the model takes."""
    description = read_description(folder)
    options = {key: value for key, value in description["space"].items() if key != "name"}
    space = get_space(description["space"]["name"], **options)
    edited = changes(description["code"]["sha256"], code_digests(space))
    if edited:
        raise UserError(f"it was made with other code: {'; '.join(edited)}")
    task = Task.from_json(description["task"])
    return list(space.diagram(space.architecture(description["architecture"]["picks"]), task))
