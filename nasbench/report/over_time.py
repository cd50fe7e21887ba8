"""The hypervolume of a search over time, and its comparison with the baseline, as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from nasbench.report import figures
from nasbench.report.figures import BLUE, GREY, INK, RED, empty_figure

Record = Mapping[str, Any]


def hypervolume_over_time(report: Record) -> go.Figure:
    """The share of the space of objectives that the candidates so far dominate; empty with a single objective."""
    figure = empty_figure(height=300)
    recorded = report.get("hypervolume") or {}
    seconds: Sequence[float] = recorded.get("seconds") or ()
    values: Sequence[float] = recorded.get("values") or ()
    if not seconds or len(seconds) != len(values):
        return figure
    ended = [candidate.get("finished_s") or 0.0 for candidate in report.get("candidates") or ()]
    last = max([seconds[-1], *ended])
    unit, divisor = figures.time_unit(last)
    figure.add_scatter(
        x=[moment / divisor for moment in (*seconds, last)],
        y=[*values, values[-1]],
        mode="lines",
        name="hypervolume",
        line={"shape": "hv", "color": RED, "width": 2},
        hovertemplate=f"%{{y:.3f}} after %{{x:.3~g}} {unit}<extra></extra>",
    )
    figure.update_xaxes(title_text=f"time since the search began, {unit}", rangemode="tozero")
    figure.update_yaxes(title_text="hypervolume", rangemode="tozero")
    figure.update_layout(showlegend=False, margin={"b": 48})
    return figure


def against_baseline(report: Record) -> go.Figure:
    """Best so far of the search beside the mean and the band of random searches, by the number of candidates."""
    figure = empty_figure(height=340)
    baseline = report.get("baseline") or {}
    count: Sequence[int] = baseline.get("count") or ()
    if not count:
        return figure
    name = figures.escape(f"{baseline['controller']} search")
    search_values = baseline["search"]
    figure.add_scatter(
        x=[*count, *reversed(count)],
        y=[*baseline["high"], *reversed(baseline["low"])],
        fill="toself",
        fillcolor="rgba(138, 146, 155, 0.25)",
        line={"width": 0},
        mode="lines",
        name=f"{name}, {baseline['coverage_pct']:.0f} %",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=list(count),
        y=baseline["mean"],
        customdata=list(zip(baseline["low"], baseline["high"], strict=True)),
        mode="lines",
        name=f"{name}, mean",
        line={"color": GREY, "width": 2, "dash": "dash"},
        hovertemplate="%{y:.4~g} (%{customdata[0]:.4~g} to %{customdata[1]:.4~g})<extra></extra>",
    )
    figure.add_scatter(
        x=list(count[: len(search_values)]),
        y=search_values,
        mode="lines+markers",
        marker={"size": [0] * (len(search_values) - 1) + [8]},  # its end
        name="this search",
        line={"shape": "hv", "color": BLUE if baseline.get("better") else INK, "width": 2.5},
        hovertemplate="%{y:.4~g} after %{x} candidates<extra></extra>",
    )
    figure.update_xaxes(title_text="candidates that finished")
    figure.update_yaxes(title_text="best score" if baseline["measure"] == "score" else "hypervolume")
    return figure
