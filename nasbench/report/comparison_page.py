"""The page of `nasbench compare`: what was covered when, the fronts, and which way of searching was better."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from nasbench.report import figures
from nasbench.report.page import write_page

Record = Mapping[str, Any]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # of Okabe and Ito
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")


def write_comparison_page(comparison: Record, path: Path) -> None:
    """Write the page whole or not at all.

    Args:
        comparison: Comparison as `compare_runs` returns it.
        path: File that is written.
    """
    first, *further = comparison["objectives"]
    write_page(
        "comparison.html.j2",
        path,
        found=comparison,
        volumes=volume_figure(comparison),
        fronts=[front_figure(comparison, first, across) for across in further],
        scale={name: _scale(comparison["scale"], name) for name in comparison["scale"]["reference"]},
    )


def volume_figure(comparison: Record) -> go.Figure:
    """Mean hypervolume of each way of searching over the seconds of search, with a band where it has several runs."""
    figure = figures.empty_figure(380)
    for number, group in enumerate(comparison["groups"]):
        over_time, name = group["over_time"], figures.escape(group["name"])
        seconds, mean, colour = over_time["seconds"], over_time["mean"], COLOURS[number % len(COLOURS)]
        if over_time["std"] is not None:
            low = [value - spread for value, spread in zip(mean, over_time["std"], strict=True)]
            high = [value + spread for value, spread in zip(mean, over_time["std"], strict=True)]
            figure.add_scatter(
                x=[*seconds, *reversed(seconds)],
                y=[*high, *reversed(low)],
                fill="toself",
                fillcolor=colour,
                opacity=0.15,
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
            )
        line = {"color": colour, "width": 2, "dash": DASHES[number % len(DASHES)]}
        label = f"{name} ({group['hypervolume']['n']})"
        figure.add_scatter(x=seconds, y=mean, mode="lines", name=label, line=line)
    figure.update_xaxes(title="seconds of search")
    figure.update_yaxes(title="hypervolume", rangemode="tozero")
    figure.update_layout(showlegend=True)
    return figure


def front_figure(comparison: Record, across: Record, up: Record) -> go.Figure:
    """The fronts of all runs, projected on two of the objectives."""
    figure = figures.empty_figure(420)
    for number, group in enumerate(comparison["groups"]):
        members = [candidate for run in group["runs"] for candidate in run["front"]]
        figure.add_scatter(
            x=[candidate["metrics"][up["metric"]] for candidate in members],
            y=[candidate["metrics"][across["metric"]] for candidate in members],
            mode="markers",
            name=figures.escape(group["name"]),
            text=[figures.escape(candidate["architecture"]).replace(" &amp; ", "<br>") for candidate in members],
            hovertemplate="%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
            marker={
                "color": COLOURS[number % len(COLOURS)],
                "symbol": SYMBOLS[number % len(SYMBOLS)],
                "size": 8,
                "opacity": 0.7,
            },
        )
    figure.update_xaxes(
        title=up["metric"], type="log" if up["metric"] in comparison["scale"]["logarithmic"] else "linear"
    )
    figure.update_yaxes(title=across["metric"])
    figure.update_layout(showlegend=True, hovermode="closest")
    return figure


def _scale(scale: Record, name: str) -> str:
    ends = f"from {scale['reference'][name]:,.6g} (0) to {scale['ideal'][name]:,.6g} (1)"
    return ends + (", by logarithms" if name in scale["logarithmic"] else "")
