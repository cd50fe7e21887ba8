"""The section of the Pareto front: its views, its members, and their drawings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from nasbench.report import figures, units
from nasbench.report.page import drawing

Record = Mapping[str, Any]

MOST = 100  # rows of the table


def front(report: Record, root: Path) -> dict[str, Any]:
    """The variables of the section of the front.

    Args:
        report: Content of ``report.json``.
        root: Folder of the run, from which the drawings are read.
    """
    axes = figures.objective_axes(report)
    ranks = {survivor["candidate"]: survivor["rank"] for survivor in report.get("survivors") or ()}
    shown = {*(report.get("front") or ()), *ranks}
    across = axes[0]["metric"] if axes else ""
    members = [candidate for candidate in report.get("candidates") or () if candidate["id"] in shown]
    members.sort(key=lambda candidate: (figures.metric(candidate, across) or 0.0, candidate["id"]))
    places, templates = _drawings(report, root)
    return {
        "axes": axes,
        "views": [] if axes is None else [_view(report, *view) for view in (axes, *figures.further_axes(report))],
        "metrics": [objective["metric"] for objective in (report.get("experiment") or {}).get("objectives") or ()],
        "ranks": ranks,
        "members": members[:MOST],
        "joint": any(candidate.get("recipe") is not None for candidate in members[:MOST]),
        "hidden_members": max(0, len(members) - MOST) + report.get("hidden_front", 0),
        "hidden_front": report.get("hidden_front", 0),
        "places": places,
        "templates": templates,
        "drawing_errors": {
            number: row["drawing_error"]
            for row in report.get("drawings") or ()
            if row.get("drawing_error")
            for number in row["candidates"]
        },
    }


def quantity(candidate: Record, name: str) -> str:
    """One metric of a candidate with its unit, as people write it."""
    value = figures.metric(candidate, name)
    if value is None:
        return units.MISSING
    has_unit = name.endswith("_bytes") or not units.unit(name)
    return figures.written(name, value) + ("" if has_unit else f"\N{NO-BREAK SPACE}{units.unit(name)}")


def _view(report: Record, across: Record, up: Record) -> dict[str, Any]:
    """The front seen from two objectives, and whether candidates without a value stand at its lower edge."""
    infeasible = [candidate for candidate in report.get("candidates") or () if candidate.get("status") == "infeasible"]
    first = (across, up) == figures.objective_axes(report)
    return {
        "figure": figures.pareto_front(report, (across, up)),
        "name": "front" if first else f"front-{across['metric']}",
        "across": across["metric"],
        "up": up["metric"],
        "edge": any(
            figures.metric(candidate, up["metric"]) is None and figures.metric(candidate, across["metric"]) is not None
            for candidate in infeasible
        ),
    }


def _drawings(report: Record, root: Path) -> tuple[dict[int, str], dict[str, Markup]]:
    """The element that holds the drawing of each candidate, and the elements that this section brings."""
    survivors = [
        survivor
        for survivor in report.get("survivors") or ()
        if survivor.get("drawing") and (root / survivor["drawing"]).is_file()
    ]
    of_survivors = {survivor["drawing"]: f"drawing-survivor-{survivor['rank']}" for survivor in survivors}
    places = {survivor["candidate"]: of_survivors[survivor["drawing"]] for survivor in survivors}
    templates = {}
    for number, row in enumerate(report.get("drawings") or ()):
        file = row.get("drawing")
        if not file or not (root / file).is_file():
            continue
        place = of_survivors.get(file) or f"drawing-{number}"
        if file not in of_survivors:
            templates[place] = drawing(root / file)
        places |= dict.fromkeys(row["candidates"], place)
    return places, templates
