"""The figures of the report, one function each; a figure without traces means that there is nothing to draw yet."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

import plotly.graph_objects as go

from nasbench.report import units

Record = Mapping[str, Any]
Measure = Literal["accuracy", "latency", "size"]

# Blue and vermilion of Okabe and Ito, which colour-blind readers tell apart.
BLUE, RED, GREY, PALE, INK = "#0072b2", "#d55e00", "#8a929b", "#c9ced4", "#1c2126"
EAGER = "searched, eager PyTorch"
SCORE = "score"
SHORTER = "trained for fewer epochs"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
CANDIDATE = {"size": 7, "color": BLUE, "opacity": 0.45}
SHORTER_CANDIDATE = {"symbol": "circle-open", "size": 5, "color": BLUE, "opacity": 0.45}


def pareto_front(report: Record) -> go.Figure:
    """All candidates over the first two objectives that trade off, the front as a step line, survivors by rank.

    The line runs along what is attainable, never through it. With three objectives or more the front is a surface, so
    its members are marked but not joined.
    """
    figure = empty_figure(height=420)
    axes = objective_axes(report)
    if axes is None:
        return figure
    across, up = axes
    points = {
        candidate["id"]: (candidate, metric(candidate, across["metric"]), metric(candidate, up["metric"]))
        for candidate in report.get("candidates") or ()
    }
    done = [point for point in points.values() if status(point[0]) in ("done", SHORTER) and None not in point[1:]]
    if not done:
        return figure
    infeasible = [point for point in points.values() if point[0].get("status") == "infeasible" and point[1] is not None]
    floor = _below([y for _, _, y in done + infeasible if y is not None])
    drawn = [(candidate, x, floor if y is None else y) for candidate, x, y in infeasible]
    shorter = [point for point in done if status(point[0]) == SHORTER]
    _dots(figure, [point for point in done if point not in shorter], "candidate", CANDIDATE)
    _dots(figure, shorter, SHORTER, SHORTER_CANDIDATE)
    _dots(figure, drawn, "infeasible", {"symbol": "circle-open", "size": 7, "color": GREY})

    front = [points[key] for key in report.get("front") or () if key in points]
    front = sorted((point for point in front if None not in point[1:]), key=lambda point: (point[1], point[2]))
    if front:
        joined = len(report["experiment"]["objectives"]) == 2
        _dots(figure, front, "Pareto front", {"size": 9, "color": RED}, mode="lines+markers" if joined else "markers")
        figure.data[-1].line = {"shape": "hv" if across["goal"] == "min" else "vh", "color": RED, "width": 1.5}
    ranks = {survivor["candidate"]: survivor["rank"] for survivor in report.get("survivors") or ()}
    chosen = [points[key] for key in ranks if key in points and None not in points[key][1:]]
    if chosen:
        marker = {"size": 20, "color": INK, "line": {"color": "white", "width": 1.5}}
        _dots(figure, chosen, "survivor, by rank", marker, mode="markers+text")
        figure.data[-1].update(
            text=[str(ranks[point[0]["id"]]) for point in chosen], textfont={"color": "white", "size": 11}
        )
    _limit(figure, up, vertical=False)
    figure.update_yaxes(title_text=_escape(units.label(up["metric"])))
    _keep_in_view(figure, across, [x for _, x, _ in done], [x for _, x, _ in infeasible])
    return figure


def distribution(report: Record) -> go.Figure:
    """How the only objective of a search is distributed over its candidates, with the survivors by rank."""
    figure = empty_figure(height=320)
    objective = next(iter(_objectives(report)), None)
    if objective is None:
        return figure
    found = {
        candidate["id"]: (candidate, value)
        for candidate in report.get("candidates") or ()
        if status(candidate) == "done" and (value := metric(candidate, objective["metric"])) is not None
    }
    if not found:
        return figure
    figure.add_trace(
        go.Histogram(
            x=[value for _, value in found.values()],
            nbinsx=max(8, round(2 * math.sqrt(len(found)))),
            name="candidates",
            marker={"color": BLUE, "opacity": 0.55, "line": {"color": "white", "width": 1}},
            hovertemplate="%{y} candidates, %{x}<extra></extra>",
        )
    )
    ranks = {survivor["candidate"]: survivor["rank"] for survivor in report.get("survivors") or ()}
    chosen = [(candidate, value, 0.0) for key, (candidate, value) in found.items() if key in ranks]
    if chosen:
        marker = {"size": 20, "color": INK, "line": {"color": "white", "width": 1.5}}
        _dots(figure, chosen, "survivor, by rank", marker, mode="markers+text")
        figure.data[-1].update(
            text=[str(ranks[candidate["id"]]) for candidate, _, _ in chosen],
            textfont={"color": "white", "size": 11},
            cliponaxis=False,
        )
    _limit(figure, objective, vertical=True)
    figure.update_xaxes(title_text=_escape(units.label(objective["metric"])))
    figure.update_yaxes(title_text="candidates", rangemode="tozero")
    return figure


def best_so_far(report: Record) -> go.Figure:
    """The best score found up to each moment of the search, over every candidate's own.

    A reward of several scores has no single best, so the first objective to be maximised stands in for it.
    """
    figure = empty_figure(height=360)
    title, goal, scores = progress_scores(report)
    finished = [
        (candidate, seconds, scores.get(candidate["id"]))
        for candidate in report.get("candidates") or ()
        if (seconds := units.number(candidate.get("finished_s"))) is not None
    ]
    finished.sort(key=lambda point: point[1])
    done = [point for point in finished if status(point[0]) == "done" and point[2] is not None]
    if not done:
        return figure
    last = finished[-1][1]
    unit, divisor = ("s", 1) if last <= 180 else ("min", 60) if last <= 10_800 else ("h", 3600)
    finished = [(candidate, seconds / divisor, value) for candidate, seconds, value in finished]
    by_status: dict[str, list[Any]] = {"done": [], SHORTER: [], "infeasible": [], "failed": []}
    floor = _below([value for _, _, value in finished if value is not None])
    for candidate, moment, value in finished:
        if candidate.get("status") == "done" and value is None:
            continue
        by_status.setdefault(status(candidate), []).append((candidate, moment, floor if value is None else value))
    best = list(accumulate((value for _, _, value in by_status["done"]), max if goal == "max" else min))
    moments = [moment for _, moment, _ in by_status["done"]]
    figure.add_trace(
        go.Scatter(
            x=[*moments, last / divisor],
            y=[*best, best[-1]],
            name="best so far",
            mode="lines",
            line={"shape": "hv", "color": RED, "width": 2},
            hovertemplate="best so far %{y:.4~g}<extra></extra>",
        )
    )
    _dots(figure, by_status["done"], "candidate", CANDIDATE)
    _dots(figure, by_status[SHORTER], SHORTER, SHORTER_CANDIDATE)
    _dots(figure, by_status["infeasible"], "infeasible", {"symbol": "circle-open", "size": 7, "color": GREY})
    _dots(figure, by_status["failed"], "failed", {"symbol": "x-thin-open", "size": 8, "color": INK})
    figure.update_xaxes(title_text=f"time since the search began, {unit}", rangemode="tozero")
    figure.update_yaxes(title_text=_escape(title))
    return figure


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
    names = [_escape(name).replace(", ", ",<br>") for name, _, _ in rows]
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


def predictor(predicted: Record) -> go.Figure:
    """Predicted against measured latency of the held-out architectures; a perfect predictor is the diagonal."""
    figure = empty_figure(height=420)
    pairs = [
        (measured, guess)
        for one, other in zip(predicted.get("measured_ms") or (), predicted.get("predicted_ms") or (), strict=False)
        if (measured := units.number(one)) is not None and (guess := units.number(other)) is not None
    ]
    if not pairs:
        return figure
    ends = [min(map(min, pairs)), max(map(max, pairs))]
    room = 0.05 * (ends[1] - ends[0]) or 0.05 * abs(ends[1]) or 1.0
    ends = [ends[0] - room, ends[1] + room]
    figure.add_trace(
        go.Scatter(
            x=ends,
            y=ends,
            mode="lines",
            name="predicted = measured",
            line={"color": GREY, "dash": "dot", "width": 1.5},
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[measured for measured, _ in pairs],
            y=[guess for _, guess in pairs],
            mode="markers",
            name="held-out architecture",
            marker={"color": BLUE, "size": 7, "opacity": 0.6},
            hovertemplate="measured %{x:.3~g} ms<br>predicted %{y:.3~g} ms<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="measured latency, ms", range=ends)
    figure.update_yaxes(title_text="predicted latency, ms", range=ends)
    return figure


def objective_axes(report: Record) -> tuple[Record, Record] | None:
    """The objectives drawn across (one to be minimised, if any) and up (one to be maximised, if any).

    None with fewer than two.
    """
    objectives = _objectives(report)
    if len(objectives) < 2:
        return None
    up = next((objective for objective in objectives if objective["goal"] == "max"), objectives[0])
    others = [objective for objective in objectives if objective is not up]
    return next((objective for objective in others if objective["goal"] == "min"), others[0]), up


def progress_scores(report: Record) -> tuple[str, str, dict[int, float]]:
    """What progress is judged by: its axis title, ``max`` or ``min``, and the value of every candidate that has one."""
    candidates = report.get("candidates") or ()
    lengths = {len(candidate["scores"]) for candidate in candidates if candidate.get("scores")}
    objectives = _objectives(report)
    if lengths == {1} or not objectives:
        pairs = [(candidate["id"], units.number((candidate.get("scores") or [None])[0])) for candidate in candidates]
        title, goal = SCORE, "max"
    else:
        first = next((objective for objective in objectives if objective["goal"] == "max"), objectives[0])
        pairs = [(candidate["id"], metric(candidate, first["metric"])) for candidate in candidates]
        title, goal = units.label(first["metric"]), first["goal"]
    return title, goal, {key: value for key, value in pairs if value is not None}


def accuracy_metric(survivor: Record) -> str:
    """The test accuracy if any stage has one, else the validation accuracy; never a mixture."""
    stages = survivor.get("stages") or ()
    tested = any(units.number((stage.get("metrics") or {}).get("test_acc_pct")) is not None for stage in stages)
    return "test_acc_pct" if tested else "val_acc_pct"


def stage_values(survivor: Record, measure: Measure) -> list[tuple[Record, float | None]]:
    """Every stage of a survivor with its accuracy in percent, its median latency in ms, or its size in bytes."""
    key = {"accuracy": accuracy_metric(survivor), "latency": "latency_ms", "size": "size_bytes"}[measure]
    return [(stage, units.median_ms((stage.get("metrics") or {}).get(key))) for stage in survivor.get("stages") or ()]


def status(candidate: Record) -> str:
    """How a candidate ended; SHORTER if others were trained for more epochs, so that it is not compared with them."""
    shorter = candidate.get("status") == "done" and candidate.get("compared") is False
    return SHORTER if shorter else str(candidate.get("status"))


def metric(candidate: Record, name: str) -> float | None:
    """One metric of a candidate, None where it has none."""
    return units.median_ms((candidate.get("metrics") or {}).get(name))


def _objectives(report: Record) -> Sequence[Record]:
    return (report.get("experiment") or {}).get("objectives") or ()


def empty_figure(height: int) -> go.Figure:
    """A figure without traces, in the style that all of them share."""
    axis = {"gridcolor": "#e9ecef", "linecolor": GREY, "zeroline": False, "ticks": "outside", "tickcolor": PALE}
    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "margin": {"l": 60, "r": 12, "t": 32, "b": 52},
            "font": {"family": FONT, "size": 12, "color": INK},
            "hoverlabel": {"bgcolor": "white", "bordercolor": GREY, "font": {"color": INK}, "align": "left"},
            "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
            "xaxis": {**axis, "automargin": True},
            "yaxis": {**axis, "automargin": True},
            "hovermode": "closest",
            # A finger that scrolls the page must not draw a zoom box; the mode bar still switches zooming on.
            "dragmode": False,
        }
    )


def _dots(
    figure: go.Figure, points: Iterable[tuple[Record, Any, Any]], name: str, marker: Record, mode: str = "markers"
) -> None:
    points = list(points)
    if points:
        figure.add_trace(
            go.Scatter(
                x=[x for _, x, _ in points],
                y=[y for _, _, y in points],
                name=name,
                mode=mode,
                marker=dict(marker),
                hovertext=[_candidate_hover(candidate) for candidate, _, _ in points],
                hoverinfo="text",
            )
        )


def _candidate_hover(candidate: Record) -> str:
    rows = [f"<b>candidate {candidate['id']}</b> ({_escape(str(candidate.get('status')))})"]
    rows += [_escape(line) for line in units.lines(str(candidate.get("architecture", "")))]
    for name in candidate.get("metrics") or {}:
        if (value := metric(candidate, name)) is not None:
            rows.append(f"{_escape(str(name))}: {_written(str(name), value)}")
    if candidate.get("error"):
        rows += [_escape(line) for line in units.lines(units.shorten(str(candidate["error"]), 160))]
    return "<br>".join(rows)


def _written(name: str, value: float) -> str:
    if name.endswith("_pct"):
        return units.percentage(value)
    if name.endswith("_bytes"):
        return units.size(value)
    return units.count(value) if name in ("macs", "params") else units.significant(value)


def _stage_hover(name: str, stage: Record, value: float | None, measure: Measure) -> str:
    rows = [f"<b>{_escape(name)}</b>" + ("" if stage.get("accepted") else " (rejected)")]
    if value is not None and measure != "latency":
        rows.append(f"{value:.2f} %" if measure == "accuracy" else f"{value:,.0f} bytes")
    latency = (stage.get("metrics") or {}).get("latency_ms")
    if measure == "latency" and isinstance(latency, Mapping):
        quantiles = [f"{key} {units.significant(units.number(latency.get(key)))}" for key in ("median", "p95", "iqr")]
        rows.append(", ".join(quantiles) + " ms" + (" (unstable)" if latency.get("unstable") else ""))
        told = [f"{key} {latency[key]}" for key in ("batch", "threads", "repeats") if latency.get(key) is not None]
        told += [str(latency[key]) for key in ("runtime", "precision", "device") if latency.get(key)]
        rows += [_escape(line) for line in units.lines(", ".join(told))]
    if stage.get("reason"):
        rows += [_escape(line) for line in units.lines(str(stage["reason"]))]
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


def _below(values: Sequence[float]) -> float:
    """A level a little under all values, where things without a value of their own are drawn."""
    low, high = min(values), max(values)
    return low - (0.08 * (high - low) or 0.05 * abs(low) or 1.0)


def _limit(figure: go.Figure, objective: Record, *, vertical: bool) -> None:
    limit = units.number(objective.get("limit"))
    if limit is None:
        return
    line = {"color": GREY, "dash": "dash", "width": 1.5}
    text = f"limit {units.significant(limit)}"
    if vertical:
        note = {"text": text, "font": {"size": 11}}
        figure.add_vline(limit, line=line, annotation=note, annotation_position="top left")
    else:
        note = {"text": text, "font": {"size": 11}}
        figure.add_hline(limit, line=line, annotation=note, annotation_position="bottom right")


def _keep_in_view(figure: go.Figure, across: Record, done: Sequence[Any], infeasible: Sequence[Any]) -> None:
    """Fit the axis to the feasible candidates, which far points would squeeze, and say below it what lies outside."""
    low, high = min(done), max(done)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    reach = (low - (high - low) - room, high + (high - low) + room)
    limit, outside = units.number(across.get("limit")), []
    if limit is not None and reach[0] <= limit <= reach[1]:
        low, high = min(low, limit), max(high, limit)
        _limit(figure, across, vertical=True)
    elif limit is not None:
        outside.append(f"limit {units.significant(limit)}")
    low, high = low - room, high + room
    if far := sum(not low <= x <= high for x in infeasible):
        outside.append(f"{far} infeasible candidate{'s' * (far != 1)}")
    title = _escape(units.label(across["metric"]))
    if outside:
        title += f"<br><span style='font-size:11px'>outside this picture: {', '.join(outside)}</span>"
    figure.update_xaxes(range=[low, high], title_text=title)


def _escape(text: str) -> str:
    """Plotly reads a little HTML in its texts; it knows &lt; &gt; &amp; but not &quot;."""
    return html.escape(text, quote=False)
