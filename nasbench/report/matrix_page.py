"""The export matrix as one page: a coloured table for each model, what is in a cell on a click, and a chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from nasbench.report import figures, units
from nasbench.report.page import write_page

Record = Mapping[str, Any]

# Okabe and Ito's, dark enough for a mark on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2126", "#8a929b", "#7a5195")
SYMBOLS = {"fp32": "circle", "fp16": "square", "bf16": "diamond", "int8": "triangle-up"}
FAST, SLOW = (0, 114, 178), (213, 94, 0)
DARK = 0.75  # from which depth on text is white
DEEPEST = math.log(20.0)  # twenty times faster, or slower, has the full colour


def write_matrix_page(result: Record, path: Path) -> None:
    """Write the page whole or not at all.

    Args:
        result: Result as `nasbench matrix --json` prints it.
        path: File that is written.
    """
    filled = [cell for cell in result["cells"] if cell["reason"] is None]
    best = min(filled, key=lambda cell: float(cell["of_eager"]["ratio"]), default=None)
    write_page(
        "matrix.html.j2",
        path,
        result=result,
        filled=len(filled),
        best=best,
        best_times=None if best is None else _times(best["of_eager"]["ratio"]),
        models=[_model(result, model) for model in result["models"]],
        color=_color,
        operators=_operators,
        recipe=_recipe,
        named=_named,
        quality_text=units.quality_text,
    )


def reasons(cells: Sequence[Record]) -> list[tuple[str, str]]:
    """Each reason for which there are no numbers, with the cells that it holds for, in words."""
    variants = list(dict.fromkeys(cell["variant"] for cell in cells))
    cells_of_reason: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        if cell["reason"] is not None:
            variants_of = cells_of_reason.setdefault(cell["reason"], {})
            variants_of.setdefault(f"{cell['backend']} {cell['precision']}", []).append(cell["variant"])
    described = []
    for reason, variants_of_runtime in cells_of_reason.items():
        grouped: dict[str, list[str]] = {}
        for runtime, names in variants_of_runtime.items():
            where = "" if len(names) == len(variants) else f" ({', '.join(names)})"
            grouped.setdefault(where, []).append(runtime)
        described.append((reason, "; ".join(f"{', '.join(runtimes)}{where}" for where, runtimes in grouped.items())))
    return described


def _times(ratio: float) -> str:
    return units.times(ratio, 1.0, "faster than eager PyTorch", "slower than eager PyTorch", "as fast as eager PyTorch")


def _model(result: Record, model: str) -> dict[str, Any]:
    """The cells of a model in rows; a reason for which a whole row or backend has no numbers stands once."""
    cells = [cell for cell in result["cells"] if cell["model"] == model]
    variants = list(dict.fromkeys(cell["variant"] for cell in cells))
    by_setting = {(cell["backend"], cell["precision"], cell["variant"]): cell for cell in cells}
    rows: list[dict[str, Any]] = []
    for backend in result["backends"]:
        cells_of_precision = {
            precision: [by_setting[backend, precision, variant] for variant in variants]
            for precision in result["precisions"]
        }
        everything = [cell for row in cells_of_precision.values() for cell in row]
        if _shared(everything) is not None:
            cells_of_precision = {"every precision": everything}
        rows += [
            {"backend": backend, "precision": precision, "cells": row, "reason": _shared(row), "first": number == 0}
            for number, (precision, row) in enumerate(cells_of_precision.items())
        ]
    filled = [cell for cell in cells if cell["reason"] is None]
    return {"name": model, "variants": variants, "rows": rows, "chart": chart(filled), "reasons": reasons(cells)}


def _shared(cells: Sequence[Record]) -> str | None:
    """The reason for which none of these cells has numbers; None if they differ in it or have some."""
    reasons_of_cells = {cell["reason"] for cell in cells}
    return reasons_of_cells.pop() if len(reasons_of_cells) == 1 else None


def _quality(cell: Record) -> str:
    """The quality of a cell on validation data, in words."""
    metric = cell["quality"]
    return f"{_named(metric)} of {units.quality_text(cell[metric], metric)}{_of(cell['val_images'])}"


def _named(metric: str) -> str:
    return units.METRICS.get(metric, (metric, ""))[0]


def _of(images: int | None) -> str:
    return "" if images is None else f" on {images:,} images"


def _operators(counted: Mapping[str, int] | None) -> str:
    if not counted:
        return "the runtime does not tell"
    listed = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return f"{sum(counted.values())}: " + ", ".join(f"{count} {kind}" for kind, count in listed)


def _depth(ratio: float) -> float:
    return min(1.0, abs(math.log(max(ratio, 1e-9))) / DEEPEST)


def _color(ratio: float) -> str:
    """Blue for faster, vermilion for slower, white for equal."""
    depth, full = _depth(ratio), FAST if ratio < 1 else SLOW
    red, green, blue = (round(255 + (part - 255) * depth) for part in full)
    return f"background:rgb({red},{green},{blue});color:{'#fff' if depth > DARK else '#1c2126'}"


def chart(cells: Sequence[Record]) -> go.Figure:
    """Accuracy over time as a multiple of eager; a colour for each backend, a mark for each precision."""
    figure = figures.empty_figure(height=420)
    if not cells:
        return figure
    for index, backend in enumerate(dict.fromkeys(cell["backend"] for cell in cells)):
        cells_of_backend = [cell for cell in cells if cell["backend"] == backend]
        figure.add_scatter(
            x=[cell["of_eager"]["ratio"] for cell in cells_of_backend],
            y=[cell[cell["quality"]] for cell in cells_of_backend],
            text=[figures.escape(f"{cell['variant']}, {backend} {cell['precision']}") for cell in cells_of_backend],
            name=figures.escape(backend),
            mode="markers",
            marker={
                "color": COLORS[index % len(COLORS)],
                "symbol": [SYMBOLS.get(cell["precision"], "x") for cell in cells_of_backend],
                "size": 10,
                "opacity": 0.8,
            },
            hovertemplate="%{text}<br>%{x:.3f} of eager, %{y:.4g}<extra></extra>",
        )
    figure.add_vline(1.0, line={"color": figures.GREY, "dash": "dash", "width": 1})
    figure.update_xaxes(title_text="time as a multiple of eager PyTorch", type="log")
    figure.update_yaxes(title_text=figures.escape(units.label(cells[0]["quality"])))
    return figure


def _recipe(steps: Sequence[Record]) -> str:
    return "; ".join(
        f"{name}: {', '.join(f'{key}={value}' for key, value in options.items() if value is not None)}"
        for step in steps
        for name, options in step.items()
    )
