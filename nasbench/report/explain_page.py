"""The page of `nasbench explain`: bars of operators, before and after, what bounds them, and what was tried."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from nasbench.deploy.explain import FAMILIES
from nasbench.report import figures, units
from nasbench.report.page import write_page
from nasbench.report.throughput_page import COLOURS

Result = Mapping[str, Any]

MANY = 14  # places that are drawn by themselves, the slowest; the rest is one
REST = "the rest"
DRAWN = 40  # operators with a bar of their own, the slowest
BOUNDS = {"arithmetic": "#0072b2", "memory": "#009e73", "overhead": "#d55e00", "call": "#8a8f94"}
"""Colours of Okabe and Ito, by what bounds an operator."""


def write_explain_page(result: Result, path: Path, command: str) -> None:
    """Write the page whole or not at all.

    Args:
        result: Result as `nasbench explain --json` prints it.
        path: File that is written.
        command: Command that wrote the page.
    """
    write_page(
        "explain.html.j2",
        path,
        result=result,
        last=result["models"][-1],
        bars=bars_figure(result),
        bounds=bounds_figure(result["models"][-1]),
        operators=[operator_row(operator) for operator in result["models"][-1]["operators"]],
        advice=[advice_row(suggestion) for suggestion in result["advice"]],
        command=command,
    )


def place_of(operator: Mapping[str, Any]) -> str:
    """The layer or module of an operator, its family, or its kind where the module is not known."""
    return str(operator["kind"] if operator["place"] == FAMILIES["other"] else operator["place"])


def places_of(model: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds by layer, of casts, of changes of layout, of other operators by module or kind, and of the call."""
    places: dict[str, float] = {}
    for operator in model["operators"]:
        places[place_of(operator)] = places.get(place_of(operator), 0.0) + operator["ms"]
    if model["operators"]:
        places[FAMILIES["call"]] = model["overhead_ms"]
    return places


def place_labels(result: Result) -> dict[str, str]:
    """A text for each place: a layer or module with the kind of its first operator, such as "features.0 (Conv)"."""
    labels: dict[str, str] = {}
    for model in result["models"]:
        for operator in model["operators"]:
            place = place_of(operator)
            is_named = operator["family"] in ("layer", "other") and place != operator["kind"]
            labels.setdefault(place, f"{place} ({operator['kind']})" if is_named else place)
    return labels


def bars_figure(result: Result) -> go.Figure:
    """A stacked bar for each model, in which a place has the same colour in both."""
    places = [places_of(model) for model in result["models"]]
    names = list(dict.fromkeys(name for milliseconds in places for name in milliseconds))
    slowest = sorted(names, key=lambda name: -max(milliseconds.get(name, 0.0) for milliseconds in places))[:MANY]
    shown = [name for name in names if name in slowest]
    text_of = place_labels(result)
    figure = figures.empty_figure(120 + 90 * len(places))
    labels = [f"{model['label']}<br>{units.significant(model['call_ms'])} ms" for model in result["models"]]
    if len(places) > 1:
        labels = [f"{when}: {label}" for when, label in zip(("before", "after"), labels, strict=True)]
    for number, name in enumerate([*shown, *([REST] if len(names) > len(shown) else [])]):
        values = [
            sum(value for key, value in milliseconds.items() if key not in shown)
            if name == REST
            else milliseconds.get(name, 0.0)
            for milliseconds in places
        ]
        figure.add_bar(
            y=labels,
            x=values,
            orientation="h",
            name=figures.escape(units.shorten(text_of.get(name, name), 30)),
            marker={
                "color": COLOURS[number % len(COLOURS)],
                "pattern": {"shape": ("", "/", "x")[number // len(COLOURS) % 3]},
                "line": {"color": "white", "width": 1},
            },
            hovertemplate=f"{figures.escape(text_of.get(name, name))}<br>%{{x:.4f}} ms<extra></extra>",
        )
    bars_px, below_px = 40 + 80 * len(places), 70  # the legend begins below the title of the axis
    legend = {"traceorder": "normal", "yanchor": "top", "y": -below_px / bars_px, "yref": "paper"}
    bottom_px = below_px + 20 * (1 + len(shown) // 3)
    figure.update_layout(barmode="stack", showlegend=True, legend=legend)
    figure.update_layout(height=40 + bars_px + bottom_px, margin={"l": 150, "t": 40, "b": bottom_px})
    figure.update_xaxes(title="milliseconds of a call")
    figure.update_yaxes(autorange="reversed")
    return figure


def bounds_figure(model: Mapping[str, Any]) -> go.Figure:
    """A bar for each of the slowest operators, coloured by what bounds it, with a mark where the roof is."""
    operators = sorted(enumerate(model["operators"], 1), key=lambda entry: -float(entry[1]["ms"]))[:DRAWN]
    operators.sort(key=lambda entry: entry[0])
    figure = figures.empty_figure(110 + 22 * max(1, len(operators)))
    rows = [
        f"{number}. {units.shorten(' '.join(filter(None, (operator['kind'], operator['layer']))), 34)}"
        for number, operator in operators
    ]
    listed = [operator for _, operator in operators]
    for bound, colour in BOUNDS.items():
        bound_operators = [
            (row, operator) for row, operator in zip(rows, listed, strict=True) if operator["bound"] == bound
        ]
        if bound_operators:
            figure.add_bar(
                y=[figures.escape(row) for row, _ in bound_operators],
                x=[operator["ms"] for _, operator in bound_operators],
                orientation="h",
                name=bound,
                marker={"color": colour},
                customdata=[[operator["kind"], operator["precision"]] for _, operator in bound_operators],
                hovertemplate="%{customdata[0]}, %{customdata[1]}<br>%{x:.4f} ms<extra></extra>",
            )
    figure.add_scatter(
        y=[figures.escape(row) for row in rows],
        x=[operator["roof_ms"] for operator in listed],
        mode="markers",
        name="at the roof",
        marker={"symbol": "line-ns-open", "size": 12, "color": figures.INK, "line": {"width": 2}},
        hovertemplate="at the roof: %{x:.4f} ms<extra></extra>",
    )
    figure.update_layout(showlegend=True, margin={"l": 250, "b": 80}, barmode="overlay")
    names = [figures.escape(row) for row in rows]
    # Without its type, an axis of texts such as "1. 0" would be one of numbers.
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=names, range=[len(rows) - 0.5, -0.5])
    figure.update_xaxes(title="milliseconds of a call", rangemode="tozero")
    return figure


def operator_row(operator: Mapping[str, Any]) -> dict[str, Any]:
    """An operator as a row of a table: a heading and a text for each column."""
    return {
        "operator": operator["kind"],
        "layer": operator["layer"] or "",
        "in": operator["precision"],
        "ms": units.significant(operator["ms"]),
        "share": f"{100 * operator['share']:.1f} %",
        "executed MACs": units.count(operator["macs"]) if operator["macs"] is not None else "",
        "moved": units.size(operator["bytes"]) if operator["bytes"] is not None else "",
        "bound by": operator["bound"],
        "at the roof ms": units.significant(operator["roof_ms"]),
        "fused": ", ".join(operator["fused"]),
    }


def advice_row(suggestion: Mapping[str, Any]) -> dict[str, Any]:
    """A suggestion as a row of a table: a heading and a text for each column."""
    ratio = suggestion["measured"]
    return {
        "change": suggestion["change"],
        "against": suggestion["cause"],
        "predicted": "" if suggestion["predicted"] is None else f"{suggestion['predicted']:.3f}",
        "measured": "" if ratio is None else f"{ratio['ratio']:.3f}",
        "95 % interval": "" if ratio is None else f"{ratio['low']:.3f} to {ratio['high']:.3f}",
        "verdict": suggestion["verdict"]
        if suggestion["reason"] is None
        else f"{suggestion['verdict']}: {suggestion['reason']}",
    }
