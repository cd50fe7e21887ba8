"""The page of `nasbench compare`: what was covered when, the fronts, and which way of searching was better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from nasbench.report import figures, page, units
from nasbench.storage.files import write_text

Record = Mapping[str, Any]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # of Okabe and Ito
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")


def write_page(found: Record, path: Path) -> None:
    """Write the page whole or not at all.

    Args:
        found: as `compare_runs` gives it.
        path: the file.
    """
    statements = "".join(f"<p class='summary'>{page.safe(each['statement'])}</p>" for each in found["comparisons"])
    first, *others = found["objectives"]
    fronts = "\n".join(
        f"<figure>\n{page.plot(front_figure(found, first, other), f'front-{number}')}\n</figure>"
        for number, other in enumerate(others)
    )
    body = "\n".join(
        [
            "<header>\n<h1>Ways of searching, side by side</h1>",
            f"<p class='status'>after {units.duration(found['common_seconds'])} of search, the time of the shortest "
            f"run</p>\n{statements}</header>",
            page.section(
                "Covered over time",
                f"<figure>\n{page.plot(volume_figure(found), 'hypervolume')}\n<figcaption>Hypervolume of what was "
                "found so far: 0 at the reference, 1 if one candidate had the best of every objective. Costs count by "
                "their logarithms. Mean over the runs; the band is one standard deviation to either "
                "side.</figcaption>\n</figure>",
            ),
            page.section("Fronts", fronts or page.missing("There is a single objective.")),
            page.section("Runs", _table(found)),
            page.section("The scale", _scale(found)),
        ]
    )
    write_text(path, page.document("Ways of searching, side by side", body))


def volume_figure(found: Record) -> go.Figure:
    """Mean hypervolume of each way of searching over the seconds of search, with a band where it has several runs."""
    figure = figures.empty_figure(380)
    for number, group in enumerate(found["groups"]):
        over_time, name = group["over_time"], figures.escape(group["name"])
        seconds, mean, colour = over_time["seconds"], over_time["mean"], COLOURS[number % len(COLOURS)]
        if over_time["std"] is not None:
            low = [value - spread for value, spread in zip(mean, over_time["std"], strict=True)]
            high = [value + spread for value, spread in zip(mean, over_time["std"], strict=True)]
            figure.add_trace(
                go.Scatter(
                    x=[*seconds, *reversed(seconds)],
                    y=[*high, *reversed(low)],
                    fill="toself",
                    fillcolor=colour,
                    opacity=0.15,
                    line={"width": 0},
                    hoverinfo="skip",
                    showlegend=False,
                )
            )
        line = {"color": colour, "width": 2, "dash": DASHES[number % len(DASHES)]}
        label = f"{name} ({group['hypervolume']['n']})"
        figure.add_trace(go.Scatter(x=seconds, y=mean, mode="lines", name=label, line=line))
    figure.update_xaxes(title="seconds of search")
    figure.update_yaxes(title="hypervolume", rangemode="tozero")
    figure.update_layout(showlegend=True)
    return figure


def front_figure(found: Record, across: Record, up: Record) -> go.Figure:
    """The fronts of all runs, projected on two of the objectives."""
    figure = figures.empty_figure(420)
    for number, group in enumerate(found["groups"]):
        members = [each for run in group["runs"] for each in run["front"]]
        figure.add_trace(
            go.Scatter(
                x=[each["metrics"][up["metric"]] for each in members],
                y=[each["metrics"][across["metric"]] for each in members],
                mode="markers",
                name=figures.escape(group["name"]),
                text=[figures.escape(each["architecture"]).replace(" &amp; ", "<br>") for each in members],
                hovertemplate="%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
                marker={
                    "color": COLOURS[number % len(COLOURS)],
                    "symbol": SYMBOLS[number % len(SYMBOLS)],
                    "size": 8,
                    "opacity": 0.7,
                },
            )
        )
    figure.update_xaxes(title=up["metric"], type="log" if up["metric"] in found["scale"]["logarithmic"] else "linear")
    figure.update_yaxes(title=across["metric"])
    figure.update_layout(showlegend=True, hovermode="closest")
    return figure


def _table(found: Record) -> str:
    rows = []
    for group in found["groups"]:
        volume: Record = group["hypervolume"]
        spread = "" if volume["std"] is None else f" &plusmn; {volume['std']:.4f}"
        title = f"{page.safe(group['name'])}: {volume['mean']:.4f}{spread}"
        rows.append(f'<tr class="group"><th colspan="7" class="text"><div>{title}</div></th></tr>')
        rows += [_row(run) for run in group["runs"]]
    heads: Sequence[str] = ("run", "seed", "hypervolume", "done", "evaluated", "trained", "time")
    head = "".join(f"<th>{each}</th>" for each in heads)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _row(run: Record) -> str:
    cells = (
        page.safe(run["run"]),
        run["seed"],
        f"{run['hypervolume']:.4f}",
        run["candidates"],
        run["evaluated"],
        run["trained"],
        units.duration(run["seconds"]),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _scale(found: Record) -> str:
    scale = found["scale"]
    told = {
        name: f"from {scale['reference'][name]:,.6g} (0) to {scale['ideal'][name]:,.6g} (1)"
        + (", by logarithms" if name in scale["logarithmic"] else "")
        for name in scale["reference"]
    }
    return page.facts_table("The worst and the best of all candidates that meet the limits", told)
