"""The figures of the report, one function each; a figure without traces means that there is nothing to draw yet."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import plotly.graph_objects as go

from nasbench.evaluators.outcomes import FAILURES
from nasbench.report import units
from nasbench.report.recipe_text import recipe_steps

Record = Mapping[str, Any]

# Blue, vermilion and bluish green of Okabe and Ito, which colour-blind readers tell apart.
BLUE, RED, GREEN, GREY, PALE, INK = "#0072b2", "#d55e00", "#009e73", "#8a929b", "#c9ced4", "#1c2126"
SCORE = "score"
SHORTER = "trained for fewer epochs"
STOPPED = "stopped early"
FAILED = "failed"
HELD_OUT = "held-out architecture"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
KINDS: Mapping[str, tuple[str, Record]] = {
    "done": ("candidate", {"size": 7, "color": BLUE, "opacity": 0.45}),
    SHORTER: (SHORTER, {"symbol": "circle-open", "size": 5, "color": BLUE, "opacity": 0.45}),
    STOPPED: (STOPPED, {"symbol": "circle-open", "size": 5, "color": GREEN, "opacity": 0.7}),
    "infeasible": ("infeasible", {"symbol": "circle-open", "size": 7, "color": GREY}),
    FAILED: (FAILED, {"symbol": "x-thin-open", "size": 8, "color": INK}),
}
"""Names and markers of candidates, by their `status`."""
SCORED = ("done", SHORTER, STOPPED)
COUNTED, BINS = 3000, 200  # from so many values on a histogram is counted before it is drawn, in so many bins at most


def pareto_front(report: Record, axes: tuple[Record, Record] | None = None) -> go.Figure:
    """All candidates over two objectives that trade off, the front as a step line, survivors by rank.

    The line runs along what is attainable, never through it. With three objectives or more the front is a surface, so
    its members are marked but not joined.

    Args:
        report: Content of ``report.json``.
        axes: Objectives of the horizontal and of the vertical axis; those of `objective_axes` by default.
    """
    figure = empty_figure(height=420)
    axes = axes or objective_axes(report)
    if axes is None:
        return figure
    across, up = axes
    points = {
        candidate["id"]: (candidate, metric(candidate, across["metric"]), metric(candidate, up["metric"]))
        for candidate in report.get("candidates") or ()
    }
    done = [point for point in points.values() if status(point[0]) in SCORED and None not in point[1:]]
    if not done:
        return figure
    infeasible = [point for point in points.values() if point[0].get("status") == "infeasible" and point[1] is not None]
    seen = _in_view([(status(candidate), y) for candidate, _, y in done if y is not None])
    floor = _below(seen + [y for _, _, y in infeasible if y is not None])
    drawn = [(candidate, x, floor if y is None else y) for candidate, x, y in infeasible]
    _by_status(figure, [*done, *drawn])

    front = [points[key] for key in report.get("front") or () if key in points]
    front = sorted((point for point in front if None not in point[1:]), key=lambda point: (point[1], point[2]))
    if front:
        joined = len(report["experiment"]["objectives"]) == 2
        _dots(figure, front, "Pareto front", {"size": 9, "color": RED}, mode="lines+markers" if joined else "markers")
        figure.data[-1].line = {"shape": "hv" if across["goal"] == "min" else "vh", "color": RED, "width": 1.5}
    _survivors(figure, report, [point for point in points.values() if None not in point[1:]])
    _limit(figure, up, vertical=False)
    figure.update_yaxes(title_text=escape(units.label(up["metric"])))
    outside = _zoom(figure, [y for _, _, y in done if y is not None], [*seen, *(y for _, _, y in drawn)])
    _keep_in_view(figure, across, [x for _, x, _ in done], [x for _, x, _ in infeasible], outside)
    return figure


def distribution(report: Record) -> go.Figure:
    """The distribution of the only objective of a search over its candidates, with the survivors by rank."""
    figure = empty_figure(height=320)
    objective = next(iter(_objectives(report)), None)
    if objective is None:
        return figure
    scored = {
        candidate["id"]: (candidate, value)
        for candidate in report.get("candidates") or ()
        if status(candidate) == "done" and (value := metric(candidate, objective["metric"])) is not None
    }
    if not scored:
        return figure
    values, bins = [value for _, value in scored.values()], max(8, round(2 * math.sqrt(len(scored))))
    shared_options: dict[str, Any] = {
        "name": "candidates",
        "marker": {"color": BLUE, "opacity": 0.55, "line": {"color": "white", "width": 1}},
        "hovertemplate": "%{y} candidates, %{x}<extra></extra>",
    }
    if len(values) <= COUNTED:
        figure.add_histogram(x=values, nbinsx=bins, **shared_options)
    else:  # a page would carry every value to count them
        counts, edges = np.histogram(values, bins=min(bins, BINS))
        middles, widths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
        figure.add_bar(x=middles.tolist(), y=counts.tolist(), width=widths.tolist(), **shared_options)
    ranked = {survivor["candidate"] for survivor in report.get("survivors") or ()}
    at_zero = [(candidate, value, 0.0) for key, (candidate, value) in scored.items() if key in ranked]
    _survivors(figure, report, at_zero, cliponaxis=False)
    _limit(figure, objective, vertical=True)
    figure.update_xaxes(title_text=escape(units.label(objective["metric"])))
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
    unit, divisor = time_unit(last)
    finished = [(candidate, seconds / divisor, value) for candidate, seconds, value in finished]
    valued = [(status(candidate), value) for candidate, _, value in finished if value is not None]
    seen = _in_view(valued)
    floor = _below(seen)
    shown = [
        (candidate, moment, floor if value is None else value)
        for candidate, moment, value in finished
        if value is not None or status(candidate) not in SCORED
    ]
    best = list(
        accumulate(
            (value for candidate, _, value in shown if status(candidate) == "done"), max if goal == "max" else min
        )
    )
    moments = [moment for candidate, moment, _ in shown if status(candidate) == "done"]
    figure.add_scatter(
        x=[*moments, last / divisor],
        y=[*best, best[-1]],
        name="best so far",
        mode="lines",
        line={"shape": "hv", "color": RED, "width": 2},
        hovertemplate="best so far %{y:.4~g}<extra></extra>",
    )
    _by_status(figure, shown)
    outside = _zoom(figure, [value for _, value in valued], [*seen, floor])
    time = f"time since the search began, {unit}"
    figure.update_xaxes(title_text=_with_outside(time, outside), rangemode="tozero")
    figure.update_yaxes(title_text=escape(title))
    return figure


def predictor(predicted: Record) -> go.Figure:
    """Predicted against measured latency; a perfect predictor is the diagonal.

    Held-out architectures, or artefacts of a search over recipes; candidates that the search measured because their
    predictions were unsure; and the front and the survivors, which were measured when the search was over.
    """
    figure = empty_figure(height=420)
    chosen, unsure = predicted.get("chosen") or (), predicted.get("unsure") or ()
    pairs = [
        (measured, guess)
        for measured_value, predicted_value in zip(
            predicted.get("measured_ms") or (), predicted.get("predicted_ms") or (), strict=False
        )
        if (measured := units.number(measured_value)) is not None
        and (guess := units.number(predicted_value)) is not None
    ]
    if not pairs:
        return figure
    shown = [*pairs, *((candidate["measured_ms"], candidate["predicted_ms"]) for candidate in (*unsure, *chosen))]
    ends = [min(map(min, shown)), max(map(max, shown))]
    room = 0.05 * (ends[1] - ends[0]) or 0.05 * abs(ends[1]) or 1.0
    ends = [ends[0] - room, ends[1] + room]
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        name="predicted = measured",
        line={"color": GREY, "dash": "dot", "width": 1.5},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[measured for measured, _ in pairs],
        y=[guess for _, guess in pairs],
        mode="markers",
        name=str(predicted.get("what") or HELD_OUT),
        marker={"color": BLUE, "size": 7, "opacity": 0.6},
        hovertemplate="measured %{x:.3~g} ms<br>predicted %{y:.3~g} ms<extra></extra>",
    )
    kinds = {
        "measured during the search": (unsure, {"color": GREEN, "size": 7, "symbol": "triangle-up"}),
        "front and survivors": (chosen, {"color": RED, "size": 9, "symbol": "diamond"}),
    }
    for name, (candidates, marker) in kinds.items():
        if candidates:
            figure.add_scatter(
                x=[candidate["measured_ms"] for candidate in candidates],
                y=[candidate["predicted_ms"] for candidate in candidates],
                customdata=[candidate["id"] for candidate in candidates],
                mode="markers",
                name=name,
                marker=marker,
                hovertemplate=("candidate %{customdata}<br>measured %{x:.3~g}, predicted %{y:.3~g} ms<extra></extra>"),
            )
    figure.update_xaxes(title_text="measured latency, ms", range=ends)
    figure.update_yaxes(title_text="predicted latency, ms", range=ends)
    return figure


def objective_axes(report: Record) -> tuple[Record, Record] | None:
    """The objectives of the horizontal axis (to be minimised, if any) and the vertical axis (to be maximised, if any).

    None with fewer than two.
    """
    objectives = _objectives(report)
    if len(objectives) < 2:
        return None
    up = next((objective for objective in objectives if objective["goal"] == "max"), objectives[0])
    remaining = [objective for objective in objectives if objective is not up]
    return next((objective for objective in remaining if objective["goal"] == "min"), remaining[0]), up


def further_axes(report: Record) -> list[tuple[Record, Record]]:
    """The objectives that `objective_axes` leaves out, each with the one that is drawn up."""
    axes = objective_axes(report)
    return [] if axes is None else [(objective, axes[1]) for objective in _objectives(report) if objective not in axes]


def progress_scores(report: Record) -> tuple[str, str, dict[int, float]]:
    """The measure of progress: its axis title, ``max`` or ``min``, and the value of every candidate that has one."""
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


def status(candidate: Record) -> str:
    """The status by which a candidate is drawn: FAILED for every kind of failure, else its outcome.

    SHORTER if others were trained for more epochs, so that it is not compared with them; STOPPED likewise.
    """
    kind = str(candidate.get("status"))
    if kind == "done":
        return SHORTER if candidate.get("compared") is False else kind
    return FAILED if kind in FAILURES else STOPPED if kind == "stopped" else kind


def metric(candidate: Record, name: str) -> float | None:
    """One metric of a candidate, None where it has none; latency as it was measured after the search, if it was."""
    measured = candidate.get("measured_latency_ms")
    if measured and name == "latency_ms":
        return units.median_ms(measured)
    if measured and name == "throughput_per_s":
        return float(1000 * measured["batch"] / measured["median"])
    return units.median_ms((candidate.get("metrics") or {}).get(name))


def time_unit(last_s: float) -> tuple[str, int]:
    """The unit in which an axis of time that ends after so many seconds is read well, and its seconds."""
    return ("s", 1) if last_s <= 180 else ("min", 60) if last_s <= 10_800 else ("h", 3600)


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
        figure.add_scatter(
            x=[x for _, x, _ in points],
            y=[y for _, _, y in points],
            name=name,
            mode=mode,
            marker=dict(marker),
            hovertext=[_candidate_hover(candidate) for candidate, _, _ in points],
            hoverinfo="text",
            customdata=[candidate["id"] for candidate, _, _ in points],  # what a click shows more of
        )


def _by_status(figure: go.Figure, points: Sequence[tuple[Record, Any, Any]]) -> None:
    for kind, (name, marker) in KINDS.items():
        _dots(figure, [point for point in points if status(point[0]) == kind], name, marker)


def _survivors(figure: go.Figure, report: Record, points: Iterable[tuple[Record, Any, Any]], **more: Any) -> None:
    """Mark the survivors among the points by their ranks."""
    points_by_id = {candidate["id"]: (candidate, x, y) for candidate, x, y in points}
    ranks = {survivor["candidate"]: survivor["rank"] for survivor in report.get("survivors") or ()}
    chosen = {key: rank for key, rank in ranks.items() if key in points_by_id}
    if chosen:
        marker = {"size": 20, "color": INK, "line": {"color": "white", "width": 1.5}}
        _dots(figure, [points_by_id[key] for key in chosen], "survivor, by rank", marker, mode="markers+text")
        font = {"color": "white", "size": 11}
        figure.data[-1].update(text=[str(rank) for rank in chosen.values()], textfont=font, **more)


def _candidate_hover(candidate: Record) -> str:
    remarks = [units.outcome(str(candidate.get("status")))]
    remarks += ["from the cache"] if candidate.get("cached") else []
    remarks += [f"attempt {1 + len(candidate['attempts'])}"] if candidate.get("attempts") else []
    rows = [f"<b>candidate {candidate['id']}</b> ({escape(', '.join(remarks))})"]
    architecture = candidate.get("network") or candidate.get("architecture", "")
    rows += [escape(line) for line in units.lines(str(architecture))]
    if candidate.get("recipe") is not None:
        steps = recipe_steps(candidate["recipe"]) or ["recipe: no step"]
        rows += [f"<i>{escape(line)}</i>" for step in steps for line in units.lines(step)]
    for name in candidate.get("metrics") or {}:
        if (value := metric(candidate, name)) is not None:
            rows.append(f"{escape(str(name))}: {written(str(name), value)}")
    if candidate.get("error"):
        rows += [escape(line) for line in units.lines(units.shorten(str(candidate["error"]), 160))]
    return "<br>".join(rows)


def written(name: str, value: float) -> str:
    """A metric as people write it."""
    if name.endswith("_pct"):
        return units.percentage(value)
    if name.endswith("_bytes"):
        return units.size(value)
    return units.count(value) if name in ("macs", "params") else units.significant(value)


def _below(values: Sequence[float]) -> float:
    """A level a little under all values, where things without a value of their own are drawn."""
    low, high = min(values), max(values)
    return low - (0.08 * (high - low) or 0.05 * abs(low) or 1.0)


def _in_view(values: Sequence[tuple[str, float]]) -> list[float]:
    """The values, by status, without those of fewer epochs that would squeeze the others together."""
    full = [value for kind, value in values if kind not in (SHORTER, STOPPED)]
    if not full:
        return [value for _, value in values]
    low, high = min(full), max(full)
    reach = high - low or 0.1 * abs(high) or 1.0
    return [value for _, value in values if low - reach <= value <= high + reach]


def _zoom(figure: go.Figure, values: Sequence[float], seen: Sequence[float]) -> list[str]:
    """Fit the upward axis to what should be seen if other values would stretch it; a note on those left outside."""
    room = 0.06 * (max(seen) - min(seen)) or 1.0
    low, high = min(seen) - room, max(seen) + room
    outside = sum(not low <= value <= high for value in values)
    if not outside:
        return []
    figure.update_yaxes(range=[low, high])
    return [f"{outside} candidate{'s' * (outside != 1)} of fewer epochs"]


def _with_outside(title: str, outside: Sequence[str]) -> str:
    """An axis title with a line below it about what the axis leaves out."""
    if not outside:
        return title
    return f"{title}<br><span style='font-size:11px'>outside this picture: {', '.join(outside)}</span>"


def _limit(figure: go.Figure, objective: Record, *, vertical: bool) -> None:
    limit = units.number(objective.get("limit"))
    if limit is None:
        return
    note = {"text": f"limit {units.significant(limit)}", "font": {"size": 11}}
    add, corner = (figure.add_vline, "top left") if vertical else (figure.add_hline, "bottom right")
    add(limit, line={"color": GREY, "dash": "dash", "width": 1.5}, annotation=note, annotation_position=corner)


def _keep_in_view(
    figure: go.Figure, across: Record, done: Sequence[Any], infeasible: Sequence[Any], notes: Sequence[str]
) -> None:
    """Fit the axis to the feasible candidates, which far points would squeeze, and say below it what lies outside."""
    low, high = min(done), max(done)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    reach = (low - (high - low) - room, high + (high - low) + room)
    limit, outside = units.number(across.get("limit")), list(notes)
    if limit is not None and reach[0] <= limit <= reach[1]:
        low, high = min(low, limit), max(high, limit)
        _limit(figure, across, vertical=True)
    elif limit is not None:
        outside.append(f"limit {units.significant(limit)}")
    low, high = low - room, high + room
    if far := sum(not low <= x <= high for x in infeasible):
        outside.append(f"{far} infeasible candidate{'s' * (far != 1)}")
    title = _with_outside(escape(units.label(across["metric"])), outside)
    figure.update_xaxes(range=[low, high], title_text=title)


def escape(text: str) -> str:
    """Plotly reads a little HTML in its texts; it knows &lt; &gt; &amp; but not &quot;."""
    return html.escape(text, quote=False)
