"""A reproduced table of a paper as one page: their numbers, ours, the difference, and the searches over time."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from nasbench.report import figures, page, units
from nasbench.storage.files import write_text
from nasbench.tables.paper_table import TRUST, Row, TableColumn
from nasbench.tables.protocols import Queries
from nasbench.tables.reproduction import BAND, Cell, Reproduction

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
}
MINUS, MISSING = "\N{MINUS SIGN}", "\N{EN DASH}"

STYLE = """<style>
.paper td { white-space: nowrap; }
.paper th, .paper td { padding: .3rem .4rem; }
.paper .first { border-left: 1px solid var(--line); }
.paper td.measured { font-weight: 600; }
.paper tr.unrun td { color: #8a929b; }
.paper sup { color: var(--soft); font-weight: 400; line-height: 0; }
.paper thead tr:first-child th { text-align: center; border-bottom: 1px solid var(--line); }
.paper thead tr:first-child th:first-child { text-align: left; }
</style>"""


def write_paper_page(result: Reproduction, path: Path, command: str) -> None:
    """Write the page whole or not at all.

    Args:
        result: of `reproduce`.
        path: the file.
        command: that made it, for the reader who wants to run it again.
    """
    table = result.table
    numbers = "Their numbers and ours" if table.published else "Numbers"
    body = "\n".join(
        [
            STYLE,
            f"<header>\n<h1>{_text(table.title)}</h1>",
            f'<p class="status">{_text(table.paper)}, {_text(table.where)}</p>',
            f'<p class="summary">{_text(table.protocol.text)}</p>\n</header>',
            f"<section>\n<h2>{numbers}</h2>\n{_table(result)}\n{_legend(result)}\n</section>",
            f"<section>\n<h2>Best so far</h2>\n{_curves(result)}\n</section>" if result.optima else "",
            f"<section>\n<h2>What to know</h2>\n{_notes(result)}\n</section>",
            f"<section>\n<h2>How to reproduce</h2>\n<pre>{_text(command)}</pre>",
            f'<p class="note">Seeds 0 to {result.seeds - 1} of each row, {units.duration(result.wall_s)} in all. The '
            "same seeds give the same numbers, with any number of workers.</p>\n</section>",
        ]
    )
    write_text(path, page.document(f"{table.name} - reproduced", body))


def pair(mean: float | None, std: float | None, digits: int) -> str:
    """``94.02 ± 0.31``; without the deviation where there is none, a dash without a mean."""
    if mean is None:
        return MISSING
    spread = "" if std is None else f" \N{PLUS-MINUS SIGN} {std:,.{digits}f}"
    return f"{mean:,.{digits}f}{spread}"


DECIMALS = {"_pct": 2, "_spearman": 3, "_s": 3, "_ms": 2, "_latency": 2, "_bytes": 0, "macs": 0}
"""By the unit at the end of a column's name."""


def precision(column: str) -> int:
    """Decimals that a column is printed with."""
    for ending, digits in DECIMALS.items():
        if column.endswith(ending):
            return digits
    return 1


def signed(value: float | None, digits: int) -> str:
    """With its sign; a dash for None."""
    return MISSING if value is None else f"{value:+,.{digits}f}".replace("-", MINUS)


def standard_errors(value: float | None) -> str:
    """``(+1.2 SE)``; empty for None."""
    return "" if value is None else f" ({signed(value, 1)} SE)"


def _table(result: Reproduction) -> str:
    table = result.table
    cells = {(cell.row, cell.column): cell for cell in result.cells}
    rows = list(dict.fromkeys(cell.row for cell in result.cells))
    if not table.published:
        return _ours(result, rows, cells)
    group = '<th class="text" rowspan="2">Method</th>'
    heads = ""
    for column in table.columns:
        group += f'<th class="first" colspan="3">{_text(column_title(column))}</th>'
        heads += '<th class="first">paper</th><th>measured</th><th>difference</th>'
    group += '<th class="first" rowspan="2">n</th>'
    lines = []
    for row in rows:
        inside = f"<td>{_text(row)}</td>"
        for column in table.columns:
            cell = cells[row, column.name]
            inside += f'<td class="first">{_paper(cell)}</td><td class="measured">{_measured(cell)}</td>'
            inside += f"<td>{_difference(cell)}</td>"
        runs = max(cells[row, column.name].n for column in table.columns)
        inside += f'<td class="first">{runs or MISSING}</td>'
        unrun = ' class="unrun"' if runs == 0 else ""
        lines.append(f"<tr{unrun}>{inside}</tr>")
    head = f"<thead><tr>{group}</tr><tr>{heads}</tr></thead>"
    return f'<div class="scroll"><table class="paper">{head}\n<tbody>\n' + "\n".join(lines) + "\n</tbody></table></div>"


def _ours(result: Reproduction, rows: Sequence[str], cells: Mapping[tuple[str, str], Cell]) -> str:
    """A table without numbers of a paper: one column for each of ours."""
    names = [column.name for column in result.table.columns]
    head = '<th class="text">Row</th>' + "".join(f"<th>{_text(name)}</th>" for name in (*names, "n"))
    lines = []
    for row in rows:
        found = [cells[row, name] for name in names]
        inside = f"<td>{_text(row)}</td>" + "".join(f'<td class="measured">{_measured(cell)}</td>' for cell in found)
        lines.append(f"<tr>{inside}<td>{max(cell.n for cell in found) or MISSING}</td></tr>")
    body = "\n".join(lines)
    made = f'<table class="paper"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
    return f'<div class="scroll">{made}</div>'


def column_title(column: TableColumn) -> str:
    """The heading of a column in words."""
    if column.shows is not None:
        where = ", ".join(column.devices) if len(column.devices) == 1 else f"{len(column.devices)} devices"
        limit = "" if column.limit_ms is None else f" \N{LESS-THAN OR EQUAL TO} {column.limit_ms:g} ms"
        return f"{where}{limit}: {SHOWN[column.shows]}"
    names = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16_120": "ImageNet16-120"}
    if column.budget_s is None:
        return f"{names[column.search]}, queries"
    return f"{names[column.read_dataset]}, test accuracy, % ({column.budget_s:,.0f} s)"


def _paper(cell: Cell) -> str:
    if cell.paper is None:
        return MISSING
    mean = pair(cell.paper, None, precision(cell.column)) + ("*" if cell.note else "")
    return f"{mean}<sup>{_text(cell.trust)}</sup>{_spread(cell.paper_std, cell)}"


def _measured(cell: Cell) -> str:
    bound = "\N{GREATER-THAN OR EQUAL TO} " if cell.stopped else ""
    return bound + pair(cell.measured, None, precision(cell.column)) + _spread(cell.std, cell)


def _spread(std: float | None, cell: Cell) -> str:
    return "" if std is None else f"<small>\N{PLUS-MINUS SIGN} {std:,.{precision(cell.column)}f}</small>"


def _difference(cell: Cell) -> str:
    if cell.paper is None or cell.measured is None or cell.stopped:
        return MISSING
    errors = f"<small>{signed(cell.difference_se, 1)} SE</small>" if cell.difference_se is not None else ""
    return f"{signed(cell.measured - cell.paper, precision(cell.column))}{errors}"


def _legend(result: Reproduction) -> str:
    used = {(cell.trust, cell.source) for cell in result.cells if cell.trust}
    marks = "; ".join(
        f"<sup>{mark}</sup> {text}" for mark, text in TRUST.items() if mark in {trust for trust, _ in used}
    )
    parts = ["Means, and below them standard deviations over the seeds."]
    if result.table.published:
        parts[0] += (
            " Difference: measured less paper; below it, in standard errors (SE) of that difference, where the paper "
            "says how its runs spread."
        )
    if marks:
        sources = "; ".join(f"<sup>{trust}</sup> {_text(source)}" for trust, source in sorted(used, key=str))
        parts.append(f"Trust in the published numbers: {marks}. They come from: {sources}.")
    stopped = [cell for cell in result.cells if cell.stopped]
    if stopped:
        told = ", ".join(f"{cell.row} {cell.column}: {cell.stopped} of {cell.n}" for cell in stopped)
        parts.append(f"Stopped before the best cell was found, so that the mean is a lower bound: {told}.")
    noted: dict[str, list[str]] = {}
    for cell in result.cells:
        if cell.note:
            noted.setdefault(f"{cell.row}: {cell.note}", []).append(cell.column)
    parts += [f"* {_text(note)} ({_text(', '.join(columns))})." for note, columns in noted.items()]
    return "\n".join(f'<p class="note">{part}</p>' for part in parts)


def _curves(result: Reproduction) -> str:
    drawn = [_drawn(result, column) for column in result.table.columns]
    return "\n".join(part for part in drawn if part) or '<p class="empty">No row of this table was run.</p>'


def _drawn(result: Reproduction, column: TableColumn) -> str:
    figure = curve_figure(result, column)
    if not figure.data:
        return ""
    what = f"Mean over the searches; the band holds the middle {BAND[1] - BAND[0]} % of them. Dashed: the best cell."
    if column.budget_s is not None:
        what += " Diamonds: the published mean and deviation at the end of the budget."
    title = f"<h3>{_text(column_title(column))}</h3>"
    return f"{title}\n<figure>\n{page.plot(figure, f'curve-{column.name}')}\n<figcaption>{what}</figcaption>\n</figure>"


def curve_figure(result: Reproduction, column: TableColumn) -> go.Figure:
    """The best so far of every row against simulated seconds or queries; without traces where nothing was run."""
    figure = figures.empty_figure(height=420)
    curves = [
        (row, result.curves[row.name, column.name])
        for row in result.table.rows
        if (row.name, column.name) in result.curves
    ]
    if not curves:
        return figure
    queries = isinstance(result.table.protocol, Queries)
    for number, (row, curve) in enumerate(curves):
        color = COLORS[number % len(COLORS)]
        red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
        outline = {"x": [*curve.x, *curve.x[::-1]], "y": [*curve.high, *curve.low[::-1]]}
        figure.add_trace(
            go.Scatter(
                **outline,
                fill="toself",
                fillcolor=f"rgba({red},{green},{blue},{0.3 / (1 + len(curves)):.2f})",
                line={"width": 0},
                legendgroup=row.name,
                showlegend=False,
                hoverinfo="skip",
            )
        )
        figure.add_trace(
            go.Scatter(
                x=curve.x,
                y=curve.mean,
                name=row.name,
                legendgroup=row.name,
                mode="lines",
                line={"color": color, "width": 2},
                hovertemplate=f"{html.escape(row.name)}: %{{y:.2f}} % at %{{x:,.0f}}<extra></extra>",
            )
        )
        said = row.published.get(column.name)
        if said is not None and column.budget_s is not None:
            figure.add_trace(
                go.Scatter(
                    x=[column.budget_s * (1.012 + 0.012 * number)],
                    y=[said.mean],
                    error_y={"type": "data", "array": [said.std or 0.0], "color": color, "thickness": 1.2, "width": 3},
                    mode="markers",
                    marker={"symbol": "diamond", "size": 8, "color": color},
                    legendgroup=row.name,
                    showlegend=False,
                    cliponaxis=False,
                    hovertemplate=f"{html.escape(row.name)}, paper: {said.mean} % [{said.trust}]<extra></extra>",
                )
            )
    best = result.optima[column.name]
    figure.add_hline(best, line={"color": figures.GREY, "dash": "dash", "width": 1})
    early = [max(0, int(0.08 * len(curve.x))) for _, curve in curves]
    low = min(float(curve.low[at]) for (_, curve), at in zip(curves, early, strict=True))
    room = 0.04 * (best - low) or 0.1
    figure.update_yaxes(title_text="test accuracy, % (200 epochs)", range=[low - room, best + room])
    if queries:
        figure.update_xaxes(title_text="different cells queried", type="log", dtick=1)
    else:
        figure.update_xaxes(title_text="simulated GPU seconds", rangemode="tozero", tickformat=",")
    return figure


def _notes(result: Reproduction) -> str:
    shown = {cell.row for cell in result.cells}
    rows = [row for row in result.table.rows if row.name in shown]
    items = [_text(note) for note in result.table.notes]
    items += [f"<b>{_text(row.name)}</b>: {_text(row.deviation)}" for row in rows if row.deviation]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.reason:
            reasons.setdefault(row.reason, []).append(row.name)
    items += [f"Not run: <b>{_text(', '.join(names))}</b>: {_text(why)}." for why, names in reasons.items()]
    run = [row for row in rows if row.reason is None]
    lines = [f"<tr><td>{_text(row.name)}</td><td><code>{_text(_settings(row))}</code></td></tr>" for row in run]
    settings = f'<h3>Settings</h3>\n<table class="facts"><tbody>{"".join(lines)}</tbody></table>' if lines else ""
    return f"{_list(items)}\n{settings}"


def _settings(row: Row) -> str:
    """The controller or the method of a row as it would be called."""
    controller = dict(row.controller or row.method or {})
    name = controller.pop("name")
    options = [f"{key}={value}" for key, value in controller.items()]
    options += [f"space {key}={value}" for key, value in row.space.items()]
    return f"{name}({', '.join(options)})"


def _list(items: Iterable[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{item}</li>" for item in items) + "\n</ul>"


def _text(value: object) -> str:
    return html.escape(str(value))
