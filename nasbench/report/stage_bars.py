"""What each compression stage of a survivor changed, as bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import plotly.graph_objects as go

from nasbench.report import units
from nasbench.report.figures import BLUE, GREY, PALE, empty_figure, escape

Record = Mapping[str, Any]
Measure = Literal["accuracy", "latency", "size"]

EAGER = "searched, eager PyTorch"


def stage_bars(survivor: Record, measure: Measure) -> go.Figure:
    """One measure of a survivor, stage by stage: its value and its change since the last accepted stage.

    Rejected stages are grey and hatched, and nothing is compared with them, because the recipe went on without them.
    The latency panel begins with the searched model in eager PyTorch, which is not a stage.
    """
    figure = empty_figure(height=300)
    rows = [(str(stage.get("name")), stage, value) for stage, value in stage_values(survivor, measure)]
    if all(value is None for _, _, value in rows):
        return figure
    baseline = survivor.get("baseline") or {}
    eager = units.median_ms(baseline.get("latency_ms")) if measure == "latency" else None
    if eager is not None:
        rows.insert(0, (EAGER, {"metrics": baseline, "accepted": True}, eager))
    divisor, unit = 1.0, {"accuracy": "%", "latency": "ms", "size": "KiB"}[measure]
    if measure == "size":
        divisor, unit = units.size_unit(max(value for _, _, value in rows if value is not None))
    write = units.percentage if measure == "accuracy" else units.significant
    compare = units.points if measure == "accuracy" else units.relative

    points = 11 if len(rows) <= 6 else 9  # of the labels, which stand side by side
    texts, before = [], None
    for name, stage, value in rows:
        if value is None:
            texts.append("")
            continue
        change = compare(value, before[1]) if before and _may_compare(measure, stage, before[0]) else ""
        small = f"<br><span style='font-size:{points - 1}px'>{change}</span>" if change else ""
        texts.append(write(value / divisor) + small)
        if stage.get("accepted") and name != EAGER:
            before = (stage, value)
    kept = [bool(stage.get("accepted")) for _, stage, _ in rows]
    colors = [PALE if not ok else GREY if name == EAGER else BLUE for (name, _, _), ok in zip(rows, kept, strict=True)]
    values = [None if value is None else value / divisor for _, _, value in rows]
    # The reference stands a little apart from the stages.
    places = [place - 0.4 * (name == EAGER) for place, (name, _, _) in enumerate(rows)]
    figure.add_trace(
        go.Bar(
            x=places,
            y=values,
            text=texts,
            textposition="outside",
            textangle=0,
            constraintext="none",
            cliponaxis=False,
            textfont={"size": points},
            marker={
                "color": colors,
                "line": {"color": GREY, "width": [0 if ok else 1 for ok in kept]},
                "pattern": {"shape": ["" if ok else "/" for ok in kept], "fgcolor": GREY, "size": 5},
            },
            hovertext=[_stage_hover(name, stage, value, measure) for name, stage, value in rows],
            hoverinfo="text",
        )
    )
    names = [escape(name).replace(", ", ",<br>") for name, _, _ in rows]
    figure.update_xaxes(
        tickvals=places,
        ticktext=names,
        tickangle=-40,
        showgrid=False,
        automargin=False,
        range=[places[0] - 0.6, places[-1] + 0.6],
    )
    low, high = _bar_range([value for value in values if value is not None], zoom=measure == "accuracy")
    title = f"{units.label(accuracy_metric(survivor))}" if measure == "accuracy" else f"{measure}, {unit}"
    if low:
        title += f" (axis: {low:g} to {high:g})"
    figure.update_yaxes(range=[low, high])
    figure.update_layout(
        title={"text": title, "font": {"size": 13}, "x": 0.01, "y": 0.98, "yanchor": "top"},
        margin={"t": 56, "l": 52, "r": 8, "b": 88},
        bargap=0.25,
        showlegend=False,
    )
    return figure


def accuracy_metric(survivor: Record) -> str:
    """The test accuracy if any stage has one, else the validation accuracy; never a mixture."""
    stages = survivor.get("stages") or ()
    tested = any(units.number((stage.get("metrics") or {}).get("test_acc_pct")) is not None for stage in stages)
    return "test_acc_pct" if tested else "val_acc_pct"


def stage_values(survivor: Record, measure: Measure) -> list[tuple[Record, float | None]]:
    """Every stage of a survivor with its accuracy in percent, its median latency in ms, or its size in bytes."""
    key = {"accuracy": accuracy_metric(survivor), "latency": "latency_ms", "size": "size_bytes"}[measure]
    return [(stage, units.median_ms((stage.get("metrics") or {}).get(key))) for stage in survivor.get("stages") or ()]


def _stage_hover(name: str, stage: Record, value: float | None, measure: Measure) -> str:
    rows = [f"<b>{escape(name)}</b>" + ("" if stage.get("accepted") else " (rejected)")]
    if value is not None and measure != "latency":
        rows.append(f"{value:.2f} %" if measure == "accuracy" else f"{value:,.0f} bytes")
    latency = (stage.get("metrics") or {}).get("latency_ms")
    if measure == "latency" and isinstance(latency, Mapping):
        quantiles = [f"{key} {units.significant(units.number(latency.get(key)))}" for key in ("median", "p95", "iqr")]
        rows.append(", ".join(quantiles) + " ms" + (" (unstable)" if latency.get("unstable") else ""))
        told = [f"{key} {latency[key]}" for key in ("batch", "threads", "repeats") if latency.get(key) is not None]
        told += [str(latency[key]) for key in ("runtime", "precision", "device") if latency.get(key)]
        rows += [escape(line) for line in units.lines(", ".join(told))]
    if stage.get("reason"):
        rows += [escape(line) for line in units.lines(str(stage["reason"]))]
    return "<br>".join(rows)


def _may_compare(measure: Measure, stage: Record, before: Record) -> bool:
    if measure != "latency":
        return True
    return units.comparable((stage.get("metrics") or {}).get("latency_ms"), before["metrics"].get("latency_ms"))


def _bar_range(values: Sequence[float], *, zoom: bool) -> tuple[float, float]:
    """From zero, or around the values on whole or tenth percents where differences are small against the values."""
    low, high = min(values), max(values)
    if not zoom:
        return 0.0, 1.05 * high or 1.0
    room = max(0.25 * (high - low), 0.3)
    step = 1 if high - low > 2 else 0.1
    return max(0.0, step * math.floor((low - room) / step)), min(100.0, step * math.ceil(high / step))
