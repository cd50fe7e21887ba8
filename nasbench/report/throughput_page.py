"""The page of `nasbench benchmark`: latency against throughput, for batches, threads and streams of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from nasbench.report import figures, units
from nasbench.report.page import write_page

Entry = Mapping[str, Any]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # of Okabe and Ito
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")


def write_throughput_page(entries: Sequence[Entry], path: Path, max_latency_ms: float | None = None) -> None:
    """Write the page whole or not at all.

    Args:
        entries: Entries as `nasbench benchmark --json` prints them.
        path: File that is written.
        max_latency_ms: Limit of the latency that is drawn; None draws none.
    """
    write_page(
        "throughput.html.j2",
        path,
        entries=entries,
        curves=throughput_figure(entries, max_latency_ms),
        rows=[throughput_row(entry) for entry in entries],
    )


def throughput_figure(entries: Sequence[Entry], max_latency_ms: float | None) -> go.Figure:
    """Images a second over the 95th percentile of the latency, a line for each way to run a model."""
    figure = figures.empty_figure(460)
    ways: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        key = (entry["model"], entry["backend"], entry["precision"], entry["threads"], entry["streams"])
        ways.setdefault(key, []).append(entry)
    kinds = list(dict.fromkeys(key[:3] for key in ways))
    several = len({key[0] for key in ways}) > 1
    for number, (key, points) in enumerate(ways.items()):
        model, backend, precision, threads, streams = key
        name = f"{backend} {precision}, {threads} thread(s)" + (f", {streams} stream(s)" if streams else "")
        points = sorted(points, key=lambda entry: int(entry["batch"]))
        colour = COLOURS[kinds.index(key[:3]) % len(COLOURS)]
        figure.add_scatter(
            x=[entry["latency_ms"]["p95"] for entry in points],
            y=[entry["throughput_per_s"] for entry in points],
            mode="lines+markers+text",
            text=[str(entry["batch"]) for entry in points],
            textposition="top center",
            textfont={"size": 10},
            name=figures.escape(f"{model}, {name}" if several else name),
            line={"color": colour, "width": 1.5},
            marker={
                "color": colour,
                "symbol": SYMBOLS[number % len(SYMBOLS)],
                "size": [13 if entry.get("picked") else 8 for entry in points],
            },
            hovertemplate="batch %{text}<br>p95 %{x:.3f} ms<br>%{y:,.0f} images/s<extra></extra>",
        )
    if max_latency_ms is not None:
        figure.add_vline(x=max_latency_ms, line={"color": figures.GREY, "dash": "dot"})
    figure.update_xaxes(title="95th percentile of the latency of a batch in ms", type="log")
    figure.update_yaxes(title="images a second", type="log")
    figure.update_layout(showlegend=True, hovermode="closest")
    return figure


def throughput_row(entry: Entry) -> dict[str, Any]:
    """An entry as a row of a table: a heading and a text for each column."""
    return {
        "model": entry["model"],
        "backend": entry["backend"],
        "precision": entry["precision"],
        "threads": entry["threads"],
        "batch": entry["batch"],
        "streams": entry["streams"] or "",
        "median ms": f"{entry['latency_ms']['median']:.3f}",
        "p95 ms": f"{entry['latency_ms']['p95']:.3f}",
        "images/s": f"{entry['throughput_per_s']:,.0f}",
        **{head: units.count(entry[key]) for key, head in units.WORTH.items() if key in entry},
        "": "picked" if entry.get("picked") else "",
    }
