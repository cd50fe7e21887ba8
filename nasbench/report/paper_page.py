"""A reproduced table of a paper as one page: their numbers, ours, the difference, and the searches over time."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path

import plotly.graph_objects as go

from nasbench.report import figures
from nasbench.report.page import write_page
from nasbench.tables.paper_table import TRUST, Row, TableColumn
from nasbench.tables.protocols import BestOfQueries, ElasticFront, JointReplay, Queries
from nasbench.tables.reproduction import BAND, Entry, Reproduction

# The colours of Okabe and Ito that are dark enough for a line.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2126")
SHOWN = {
    "spearman": "rank correlation",
    "spearman_all": "rank correlation over all cells",
    "measurements": "cells measured",
    "adapt_s": "seconds to adapt",
    "predict_s": "seconds to predict all cells",
    "test_acc_pct": "test accuracy, %",
    "latency_ms": "latency, ms",
    "limits_met": "limits met",
    "accuracy_queries": "accuracies queried",
    "hypervolume_fp32": "test accuracy over latency, fp32",
    "hypervolume_int8": "test accuracy over latency, int8",
    "area": "mean share of the front over the budget",
    "share": "share of the front",
    "time_to_95": "part of the budget until 95 % of the front",
}
LINES = {"elastic_front": "", "joint_replay": "The dashed line is the whole front."}
"""What the dashed line in the figures of a protocol is, where it is not the best cell."""
MINUS, MISSING = "\N{MINUS SIGN}", "\N{EN DASH}"


def write_paper_page(result: Reproduction, path: Path, command: str) -> None:
    """Write the page whole or not at all.

    Args:
        result: Result of `reproduce`.
        path: File that is written.
        command: Command that wrote the page, for the reader who wants to run it again.
    """
    rows: dict[str, list[Entry]] = {}
    for entry in result.entries:
        rows.setdefault(entry.row, []).append(entry)
    shown = [row for row in result.table.rows if row.name in rows]
    used = {(entry.trust, entry.source) for entry in result.entries if entry.trust}
    curves = [(column, curve_figure(result, column)) for column in result.table.columns]
    write_page(
        "paper.html.j2",
        path,
        result=result,
        table=result.table,
        rows=rows,
        shown=shown,
        trust={mark: meaning for mark, meaning in TRUST.items() if mark in {trust for trust, _ in used}},
        sources=sorted(used, key=str),
        notes=_grouped((f"{entry.row}: {entry.note}", entry.column) for entry in result.entries if entry.note),
        reasons=_grouped((row.reason, row.name) for row in shown if row.reason),
        curves=[(column, drawn) for column, drawn in curves if drawn.data],
        band=BAND[1] - BAND[0],
        line=LINES.get(result.table.protocol.kind, "The dashed line is the best cell."),
        curves_title="Accuracy over latency" if isinstance(result.table.protocol, ElasticFront) else "Best so far",
        command=command,
        **{write.__name__: write for write in (pair, precision, signed, column_title, settings)},
    )


def pair(mean: float | None, std: float | None, digits: int | None) -> str:
    """``94.02 ± 0.31``; without the deviation where there is none, a dash without a mean.

    Args:
        mean: Mean over the seeds.
        std: Standard deviation over the seeds.
        digits: Number of decimals; None prints three significant digits.
    """
    if mean is None:
        return MISSING
    spread = "" if std is None else f" \N{PLUS-MINUS SIGN} {_printed(std, digits)}"
    return f"{_printed(mean, digits)}{spread}"


def _printed(value: float, digits: int | None, sign: str = "") -> str:
    return f"{value:{sign}.3g}" if digits is None else f"{value:{sign},.{digits}f}"


DECIMALS = {
    "_pct": 2,
    "_share": 4,
    "_area": 4,
    "_95": 3,
    "_s": 3,
    "_ms": 2,
    "_latency": 2,
    "_bytes": 0,
    "macs": 0,
    "params": 0,
    "_days": None,
}
"""Number of decimals by the unit at the end of a column's name; None is three significant digits."""
UNITLESS = {"spearman": 3, "kendall": 3, "hypervolume": 3}
"""The same by a quantity without a unit, anywhere in the name."""


def precision(column: str) -> int | None:
    """Number of decimals that a column is printed with; None is three significant digits."""
    for ending, digits in DECIMALS.items():
        if column.endswith(ending):
            return digits
    return next((digits for quantity, digits in UNITLESS.items() if quantity in column), 1)


def signed(value: float | None, digits: int | None) -> str:
    """A number with its sign; a dash for None."""
    return MISSING if value is None else _printed(value, digits, "+").replace("-", MINUS)


def standard_errors(value: float | None) -> str:
    """``(+1.2 SE)``; empty for None."""
    return "" if value is None else f" ({signed(value, 1)} SE)"


def column_title(column: TableColumn) -> str:
    """The heading of a column in words."""
    if column.shows is not None:
        where = ", ".join(column.devices) if len(column.devices) < 2 else f"{len(column.devices)} devices"
        where = column.search.replace("_", " ") or where
        if not where and not column.devices:
            return SHOWN[column.shows]
        limit = "" if column.limit_ms is None else f" \N{LESS-THAN OR EQUAL TO} {column.limit_ms:g} ms"
        return f"{where}{limit}: {SHOWN[column.shows]}"
    names = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16_120": "ImageNet16-120"}
    if column.queries is not None:
        return f"{names[column.read_dataset]}, test accuracy, % ({column.queries} queries)"
    if column.budget_s is None:
        return f"{names[column.search]}, queries"
    return f"{names[column.read_dataset]}, test accuracy, % ({column.budget_s:,.0f} s)"


def curve_figure(result: Reproduction, column: TableColumn) -> go.Figure:
    """The best so far of every row against simulated seconds or queries; without traces where nothing was run."""
    figure = figures.empty_figure(height=420)
    curves = [
        (row, result.curves[row.name, column.name])
        for row in result.table.rows
        if (row.name, column.name) in result.curves and len(result.curves[row.name, column.name].x)
    ]
    if not curves:
        return figure
    queries = isinstance(result.table.protocol, Queries | BestOfQueries)
    shares = isinstance(result.table.protocol, JointReplay)
    value = "%{y:.4f} at %{x:.2f}" if shares else "%{y:.2f} % at %{x:,.0f}"
    for number, (row, curve) in enumerate(curves):
        color = COLORS[number % len(COLORS)]
        red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
        outline = {"x": [*curve.x, *curve.x[::-1]], "y": [*curve.high, *curve.low[::-1]]}
        figure.add_scatter(
            **outline,
            fill="toself",
            fillcolor=f"rgba({red},{green},{blue},{0.3 / (1 + len(curves)):.2f})",
            line={"width": 0},
            legendgroup=row.name,
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=curve.x,
            y=curve.mean,
            name=row.name,
            legendgroup=row.name,
            mode="lines",
            line={"color": color, "width": 2},
            hovertemplate=f"{html.escape(row.name)}: {value}<extra></extra>",
        )
        published = row.published.get(column.name)
        end = column.budget_s or column.queries
        if published is not None and end is not None:
            figure.add_scatter(
                x=[end * (1.012 + 0.012 * number)],
                y=[published.mean],
                error_y={"type": "data", "array": [published.std or 0.0], "color": color, "thickness": 1.2, "width": 3},
                mode="markers",
                marker={"symbol": "diamond", "size": 8, "color": color},
                legendgroup=row.name,
                showlegend=False,
                cliponaxis=False,
                hovertemplate=f"{html.escape(row.name)}, paper: {published.mean} % [{published.trust}]<extra></extra>",
            )
    elastic = isinstance(result.table.protocol, ElasticFront)
    best = result.optima.get(column.name, max(float(curve.high[-1]) for _, curve in curves))
    if not elastic:
        figure.add_hline(best, line={"color": figures.GREY, "dash": "dash", "width": 1})
    early = [max(0, int(0.08 * len(curve.x))) for _, curve in curves]
    low = min(float(curve.low[at]) for (_, curve), at in zip(curves, early, strict=True))
    room = 0.04 * (best - low) or 0.1
    title = "share of the front's hypervolume" if shares else "test accuracy, %"
    title += "" if shares or elastic else " (200 epochs)"
    figure.update_yaxes(title_text=title, range=[low - room, best + room])
    if elastic:
        figure.update_xaxes(title_text="latency, as a share of that of the trained network in fp32", rangemode="tozero")
    elif shares:
        figure.update_xaxes(title_text="part of the budget of simulated seconds", rangemode="tozero")
    elif queries:
        figure.update_xaxes(title_text="different cells queried", type="log", dtick=1)
    else:
        figure.update_xaxes(title_text="simulated GPU seconds", rangemode="tozero", tickformat=",")
    return figure


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The second items of pairs, grouped by the first."""
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def settings(row: Row) -> str:
    """The controller or the method of a row as it would be called."""
    controller = dict(row.controller or row.method or {})
    name = controller.pop("name")
    options = [f"{key}={value}" for key, value in controller.items()]
    options += [f"space {key}={value}" for key, value in row.space.items()]
    return f"{name}({', '.join(options)})"
