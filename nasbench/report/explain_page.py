"""The page of `nasbench explain`: bars of operators, before and after, what bounds them, and what was tried."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

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
        result: as `nasbench explain --json` prints it.
        path: the file.
        command: that made it.
    """
    write_page(
        "explain.html.j2",
        path,
        result=result,
        last=result["models"][-1],
        bars=bars_figure(result),
        bounds=bounds_figure(result["models"][-1]),
        operators=[operator_row(each) for each in result["models"][-1]["operators"]],
        advice=[advice_row(each) for each in result["advice"]],
        command=command,
    )


def places_of(model: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds by layer, of casts, of changes of layout, of other operators by kind, and of the call."""
    names = {"cast": "casts and requantizations", "reorder": "changes of layout"}
    found: dict[str, float] = {}
    for each in model["operators"]:
        name = each["layer"] or names.get(each["family"]) or each["kind"]
        found[name] = found.get(name, 0.0) + each["ms"]
    if model["operators"]:
        found["overhead of the call"] = model["overhead_ms"]
    return found


def bars_figure(result: Result) -> go.Figure:
    """A stacked bar for each model, in which a place has the same colour in both."""
    told = [places_of(model) for model in result["models"]]
    names = list(dict.fromkeys(name for each in told for name in each))
    slowest = sorted(names, key=lambda name: -max(each.get(name, 0.0) for each in told))[:MANY]
    shown = [name for name in names if name in slowest]
    figure = figures.empty_figure(120 + 90 * len(told))
    labels = [f"{model['label']}<br>{units.significant(model['call_ms'])} ms" for model in result["models"]]
    if len(told) > 1:
        labels = [f"{when}: {label}" for when, label in zip(("before", "after"), labels, strict=True)]
    for number, name in enumerate([*shown, *([REST] if len(names) > len(shown) else [])]):
        values = [
            sum(value for key, value in each.items() if key not in shown) if name == REST else each.get(name, 0.0)
            for each in told
        ]
        figure.add_bar(
            y=labels,
            x=values,
            orientation="h",
            name=figures.escape(units.shorten(name, 30)),
            marker={
                "color": COLOURS[number % len(COLOURS)],
                "pattern": {"shape": ("", "/", "x")[number // len(COLOURS) % 3]},
                "line": {"color": "white", "width": 1},
            },
            hovertemplate=f"{figures.escape(name)}<br>%{{x:.4f}} ms<extra></extra>",
        )
    figure.update_layout(
        barmode="stack", showlegend=True, legend={"traceorder": "normal", "yanchor": "top", "y": -0.3, "yref": "paper"}
    )
    figure.update_layout(height=200 + 80 * len(told) + 18 * (len(shown) // 4), margin={"l": 150, "b": 130})
    figure.update_xaxes(title="milliseconds of a call")
    figure.update_yaxes(autorange="reversed")
    return figure


def bounds_figure(model: Mapping[str, Any]) -> go.Figure:
    """A bar for each of the slowest operators, coloured by what bounds it, with a mark where the roof is."""
    operators = sorted(enumerate(model["operators"], 1), key=lambda entry: -float(entry[1]["ms"]))[:DRAWN]
    operators.sort(key=lambda entry: entry[0])
    figure = figures.empty_figure(110 + 22 * max(1, len(operators)))
    rows = [f"{number}. {units.shorten(each['layer'] or each['kind'], 28)}" for number, each in operators]
    told = [each for _, each in operators]
    for bound, colour in BOUNDS.items():
        these = [(row, each) for row, each in zip(rows, told, strict=True) if each["bound"] == bound]
        if these:
            figure.add_bar(
                y=[figures.escape(row) for row, _ in these],
                x=[each["ms"] for _, each in these],
                orientation="h",
                name=bound,
                marker={"color": colour},
                customdata=[[each["kind"], each["precision"]] for _, each in these],
                hovertemplate="%{customdata[0]}, %{customdata[1]}<br>%{x:.4f} ms<extra></extra>",
            )
    figure.add_scatter(
        y=[figures.escape(row) for row in rows],
        x=[each["roof_ms"] for each in told],
        mode="markers",
        name="at the roof",
        marker={"symbol": "line-ns-open", "size": 12, "color": figures.INK, "line": {"width": 2}},
        hovertemplate="at the roof: %{x:.4f} ms<extra></extra>",
    )
    figure.update_layout(showlegend=True, margin={"l": 210, "b": 80}, barmode="overlay")
    names = [figures.escape(row) for row in rows]
    figure.update_yaxes(categoryorder="array", categoryarray=names, range=[len(rows) - 0.5, -0.5])
    figure.update_xaxes(title="milliseconds of a call", rangemode="tozero")
    return figure


def operator_row(each: Mapping[str, Any]) -> dict[str, Any]:
    """What people read of an operator: a heading and a text for each column."""
    return {
        "operator": each["kind"],
        "layer": each["layer"] or "",
        "in": each["precision"],
        "ms": units.significant(each["ms"]),
        "share": f"{100 * each['share']:.1f} %",
        "MACs": units.count(each["macs"]) if each["macs"] is not None else "",
        "moved": units.size(each["bytes"]) if each["bytes"] is not None else "",
        "bound by": each["bound"],
        "at the roof ms": units.significant(each["roof_ms"]),
        "fused": ", ".join(each["fused"]),
    }


def advice_row(each: Mapping[str, Any]) -> dict[str, Any]:
    """What people read of a suggestion."""
    ratio = each["measured"]
    return {
        "change": each["change"],
        "against": each["cause"],
        "predicted": "" if each["predicted"] is None else f"{each['predicted']:.3f}",
        "measured": "" if ratio is None else f"{ratio['ratio']:.3f}",
        "95 % interval": "" if ratio is None else f"{ratio['low']:.3f} to {ratio['high']:.3f}",
        "": each["verdict"] if each["reason"] is None else f"{each['verdict']}: {each['reason']}",
    }
