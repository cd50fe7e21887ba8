"""The members of the Pareto front on the page: a table of them, and their drawings, by pointer, touch and keyboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasbench.report import figures, units
from nasbench.report.page import missing, safe
from nasbench.report.recipe_text import recipe_steps

Record = Mapping[str, Any]

MOST = 100  # rows of the table

# A click on a point, or on a number of the table, shows the candidate between the two, and marks it in both.
SCRIPT = """
(() => {
  const plots = [...document.querySelectorAll("[id='front'], [id^='front-'], [id='objective']")]
    .filter((one) => one.data);
  const shown = document.getElementById("shown");
  const rows = [...document.querySelectorAll("tr[data-candidate]")];
  const marks = new Map();
  const place = (plot, id) => {
    for (const trace of plot.data) {
      const at = trace.customdata && trace.mode ? [...trace.customdata].indexOf(id) : -1;
      if (at >= 0) return {x: [[trace.x[at]]], y: [[trace.y[at]]]};
    }
    return {x: [[]], y: [[]]};
  };
  const point = (id) => plots.forEach((plot) => {
    if (!marks.has(plot)) {
      marks.set(plot, plot.data.length);
      Plotly.addTraces(plot, {x: [], y: [], mode: "markers", hoverinfo: "skip", showlegend: false,
        marker: {symbol: "circle-open", size: 24, color: "#1c2126", line: {width: 2}}});
    }
    Plotly.restyle(plot, place(plot, id), [marks.get(plot)]);
  });
  const show = (id, hover) => {
    const told = document.getElementById("told-" + id);
    shown.replaceChildren();
    if (told) {
      shown.append(told.content.cloneNode(true));
      const from = document.getElementById(told.dataset.drawing);
      if (from) {
        const scroll = document.createElement("div");
        scroll.className = "scroll";
        scroll.append((from.content || from).querySelector("svg").cloneNode(true));
        shown.append(scroll);
      }
    } else {
      const text = document.createElement("p");
      text.innerHTML = hover;
      const note = document.createElement("p");
      note.className = "note";
      note.textContent = "Not on the front, so it is not drawn here; nasbench draw SPACE ARCHITECTURE draws it.";
      shown.append(text, note);
    }
    shown.classList.add("full");
    for (const row of rows) {
      const on = row.dataset.candidate === String(id);
      row.classList.toggle("on", on);
      row.querySelector("button").setAttribute("aria-pressed", String(on));
    }
    point(id);
  };
  plots.forEach((plot) => plot.on("plotly_click", (event) => {
    const hit = event.points.find((one) => one.customdata !== undefined);
    if (!hit) return;
    show(hit.customdata, hit.hovertext || "");
    shown.scrollIntoView({block: "nearest"});
  }));
  rows.forEach((row, index) => {
    const button = row.querySelector("button");
    button.addEventListener("click", () => {
      show(Number(row.dataset.candidate), "");
      shown.scrollIntoView({block: "nearest"});
    });
    button.addEventListener("keydown", (event) => {
      const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
      const next = step && rows[index + step];
      if (!next) return;
      event.preventDefault();
      next.querySelector("button").focus();
      show(Number(next.dataset.candidate), "");
    });
  });
})();
"""


def front_members(report: Record, root: Path) -> str:
    """What a click shows, a table of the front and the survivors, and their drawings (HTML); empty if there are none.

    Args:
        report: the content of ``report.json``.
        root: the folder of the run, from which the drawings are read.
    """
    members = _members(report)
    if not members:
        return ""
    ranks = _ranks(report)
    places, templates = _drawings(report, root)
    errors = {
        number: row["drawing_error"]
        for row in report.get("drawings") or ()
        if row.get("drawing_error")
        for number in row["candidates"]
    }
    shown = members[:MOST]
    told = [_told(report, each, ranks, places.get(each["id"]), errors.get(each["id"])) for each in shown]
    note = "Choose a number, or a point of the picture, to see the architecture; arrow keys go on from row to row."
    if len(members) > MOST:
        note += f" {len(members) - MOST:,} further members stand in report.json."
    return "\n".join(
        [
            '<div id="shown" class="shown" aria-live="polite"></div>',
            f'<p class="note">{note}</p>',
            _table(report, shown, ranks),
            *told,
            *templates,
            f"<script>{SCRIPT}</script>",
        ]
    )


def survivor_drawing(rank: object) -> str:
    """The identifier of the element that holds the drawing of a survivor, wherever that stands on the page."""
    return f"drawing-survivor-{rank}"


def _members(report: Record) -> list[Record]:
    """The front and the survivors, by the objective that is drawn across."""
    wanted = {*(report.get("front") or ()), *_ranks(report)}
    found = [each for each in report.get("candidates") or () if each["id"] in wanted]
    axes = figures.objective_axes(report)
    name = axes[0]["metric"] if axes else ""
    return sorted(found, key=lambda each: (figures.metric(each, name) or 0.0, each["id"]))


def _ranks(report: Record) -> dict[int, Any]:
    return {survivor["candidate"]: survivor["rank"] for survivor in report.get("survivors") or ()}


def _drawings(report: Record, root: Path) -> tuple[dict[int, str], list[str]]:
    """The element that holds the drawing of each candidate, and the elements that this section brings."""
    of_survivors = {
        one["drawing"]: survivor_drawing(one["rank"])
        for one in report.get("survivors") or ()
        if one.get("drawing") and (root / one["drawing"]).is_file()
    }
    places = {
        one["candidate"]: of_survivors[one["drawing"]]
        for one in report.get("survivors") or ()
        if one.get("drawing") in of_survivors
    }
    templates = []
    for number, row in enumerate(report.get("drawings") or ()):
        file = row.get("drawing")
        if not file or not (root / file).is_file():
            continue
        place = of_survivors.get(file) or f"drawing-{number}"
        if file not in of_survivors:
            drawn = (root / file).read_text(encoding="utf-8")
            templates.append(f'<template id="{place}">{drawn}</template>')
        places |= dict.fromkeys(row["candidates"], place)
    return places, templates


def _metrics(report: Record) -> list[str]:
    return [each["metric"] for each in (report.get("experiment") or {}).get("objectives") or ()]


def _table(report: Record, members: Sequence[Record], ranks: Mapping[int, Any]) -> str:
    names = _metrics(report)
    joint = any(each.get("recipe") is not None for each in members)
    heads = "".join(f"<th>{safe(units.METRICS.get(name, (name, ''))[0].capitalize())}</th>" for name in names)
    heads += '<th class="text">Architecture</th>' + '<th class="text">Recipe</th>' * joint
    rows = []
    for each in members:
        values = ((name, figures.metric(each, name)) for name in names)
        cells = "".join(f"<td>{units.MISSING if value is None else _value(name, value)}</td>" for name, value in values)
        arch = str(each.get("network") or each.get("architecture", ""))
        cells += f'<td class="text"><code title="{safe(arch)}">{safe(units.shorten(arch, 48))}</code></td>'
        if joint:
            cells += f'<td class="text">{_recipe(each)}</td>'
        rank = f" <small>survivor {safe(ranks[each['id']])}</small>" if each["id"] in ranks else ""
        rows.append(
            f'<tr data-candidate="{safe(each["id"])}"><td><button type="button" aria-pressed="false">'
            f"{safe(each['id'])}</button>{rank}</td>{cells}</tr>"
        )
    head = f"<tr><th>Candidate</th>{heads}</tr>"
    body = "\n".join(rows)
    return f'<div class="scroll"><table class="front"><thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _value(name: str, value: float) -> str:
    _, unit = units.METRICS.get(name, (name, ""))
    own = name.endswith("_bytes") or not unit
    return safe(figures.written(name, value)) + ("" if own else f"&nbsp;{unit}")


def _recipe(candidate: Record) -> str:
    steps = recipe_steps(candidate.get("recipe") or ()) or ["no step"]
    return "".join(f"<div>{safe(step)}</div>" for step in steps)


def _told(report: Record, candidate: Record, ranks: Mapping[int, Any], drawing: str | None, error: str | None) -> str:
    """What is shown of one candidate, in an element that a browser does not show."""
    rank = f", survivor {safe(ranks[candidate['id']])}" if candidate["id"] in ranks else ""
    arch = safe(candidate.get("network") or candidate.get("architecture", ""))
    facts = []
    for name in dict.fromkeys([*_metrics(report), *(candidate.get("metrics") or {})]):
        if name in units.METRICS and (value := figures.metric(candidate, name)) is not None:
            facts.append(f"{safe(units.METRICS[name][0])} {_value(name, value)}")
    parts = [f"<h3>Candidate {safe(candidate['id'])}{rank}</h3>", f"<p><code>{arch}</code></p>"]
    if candidate.get("recipe") is not None:
        parts.append(f'<div class="recipe">{_recipe(candidate)}</div>')
    parts.append(f"<p>{', '.join(facts)}</p>")
    shared = next(
        (rank for each, rank in ranks.items() if drawing == survivor_drawing(rank) and each != candidate["id"]), None
    )
    if shared is not None:
        parts.append(f'<p class="note">The same network as survivor {safe(shared)}, with another recipe.</p>')
    if error:
        parts.append(missing(f"The architecture could not be drawn: {error}"))
    place = f' data-drawing="{drawing}"' if drawing else ""
    return f'<template id="told-{safe(candidate["id"])}"{place}>{"".join(parts)}</template>'
