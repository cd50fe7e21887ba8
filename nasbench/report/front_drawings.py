"""The drawings of the members of the Pareto front of a run, for its report."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasbench.drawing.svg import operation_colours, svg
from nasbench.problems.names import CLASSIFICATION
from nasbench.problems.registry import make_problem
from nasbench.search.record import RecordedCandidate
from nasbench.storage.code_digest import changes, code_digests
from nasbench.storage.files import write_text
from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError
from search_spaces import Graph, SearchSpace, Task, get_space

FOLDER = "drawings"
MOST = 100  # networks: more take minutes
MOST_BYTES = 2_000_000  # of all drawings: they stand in the report


def draw_front(
    root: Path, front: Sequence[RecordedCandidate], experiment: Mapping[str, Any], survivors: Sequence[Any]
) -> list[dict[str, Any]]:
    """Write a drawing of every network on the front; candidates that differ in their recipes share one.

    Args:
        root: Folder of the run; drawings of an earlier report are replaced.
        front: Members of the front. Where all would take too much room, the first ones are drawn.
        experiment: The experiment, as JSON values.
        survivors: Survivors as the report describes them: with their drawings, which are not drawn again.

    Returns:
        A row for each network: `candidates`, the numbers of those that have it; `drawing`, the path of an SVG file
        relative to `root`, or None; `drawing_error`, why there is none, or None.
    """
    rows = {candidate.network: _row([], candidate.id) for candidate in front}
    for candidate in front:
        rows[candidate.network]["candidates"].append(candidate.id)
    drawings = {survivor["candidate"]: survivor["drawing"] for survivor in survivors if survivor.get("drawing")}
    graphs: dict[str, tuple[Graph, ...]] = {}
    first = {candidate.network: candidate for candidate in reversed(front)}
    built: tuple[SearchSpace, Task] | None = None
    for key, row in rows.items():
        drawn = next((drawings[number] for number in row["candidates"] if number in drawings), None)
        if drawn is not None:
            row["drawing"] = drawn
            continue
        if len(graphs) >= MOST:
            row["drawing_error"] = f"{MOST} networks of the front were drawn before it; `nasbench draw` draws it"
            continue
        try:
            built = built or (_space(root, experiment), _task(root, experiment))
            space, task = built
            drawn_graphs = tuple(space.diagram(space.parse(first[key].network), task))
            svg(drawn_graphs)  # a graph may turn out not to be one
            graphs[row["file"]] = drawn_graphs
        except Exception as error:  # a user's own diagram() may fail in any way; the report must not be lost
            row["drawing_error"] = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
    _write(root, list(rows.values()), graphs)
    return [{key: value for key, value in row.items() if key != "file"} for row in rows.values()]


def _row(candidates: list[int], first: int) -> dict[str, Any]:
    return {"candidates": candidates, "drawing": None, "drawing_error": None, "file": f"{FOLDER}/{first}.svg"}


def _write(root: Path, rows: Sequence[dict[str, Any]], graphs: dict[str, tuple[Graph, ...]]) -> None:
    """Write the files, an operation in one colour in all of them, until they take too much room."""
    colours = operation_colours(graph for diagram in graphs.values() for graph in diagram)
    room = MOST_BYTES
    for row in rows:
        if row["file"] not in graphs:
            continue
        named = ", ".join(map(str, row["candidates"]))
        drawn = svg(
            graphs[row["file"]], title=f"Candidate{'s' * (len(row['candidates']) > 1)} {named}", colours=colours
        )
        room -= len(drawn.encode("utf-8"))
        if room < 0:
            row["drawing_error"] = f"the drawings before it take {MOST_BYTES / 1e6:.0f} MB; `nasbench draw` draws it"
        else:
            write_text(root / row["file"], drawn)
            row["drawing"] = row["file"]
    written: Collection[str] = {row["drawing"] for row in rows}
    for file in (root / FOLDER).glob("*.svg"):
        if file.relative_to(root).as_posix() not in written:
            file.unlink()


def _space(root: Path, experiment: Mapping[str, Any]) -> SearchSpace:
    options = dict(experiment["space"])
    space = get_space(options.pop("name"), **options)
    file = RunFolder(root).code
    if file.exists():
        now, before = code_digests(space), json.loads(file.read_text(encoding="utf-8"))["sha256"]
        edited = changes({name: before[name] for name in now if name in before}, now)
        if edited:
            raise UserError(f"the run was made with other code: {'; '.join(edited)}")
    return space


def _task(root: Path, experiment: Mapping[str, Any]) -> Task:
    """The task that the networks were built for."""
    file = RunFolder(root).space
    task_json = json.loads(file.read_text(encoding="utf-8")).get("task") if file.exists() else None
    if task_json is not None:
        return Task.from_json(task_json)
    if experiment.get("data") is None:
        raise UserError("the search has no data, so what its networks take is not known.")
    return make_problem(experiment.get("problem") or {"name": CLASSIFICATION}, experiment["data"]).task
