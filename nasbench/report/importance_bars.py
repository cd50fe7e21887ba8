"""Which decisions mattered, as figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from nasbench.report import units
from nasbench.report.figures import BLUE, INK, PALE, empty_figure, escape

Record = Mapping[str, Any]

MOST = 10  # decisions that are drawn


def importance_figures(report: Record) -> list[tuple[go.Figure, str]]:
    """A figure for each objective whose decisions have shares, with its metric."""
    chance = report.get("importance_by_chance") or {}
    return [
        (importance_bars(shares, chance.get(metric) or {}, units.words(metric).capitalize()), metric)
        for metric, shares in (report.get("importance") or {}).items()
        if not isinstance(shares, str)
    ]


def beyond_chance(shares: Mapping[str, float], chance: object) -> list[str]:
    """The decisions whose share is larger than chance would make it."""
    limits = chance if isinstance(chance, Mapping) else {}
    return [name for name, share in shares.items() if share > limits.get(name, 0.0)]


def importance_bars(shares: Mapping[str, float], chance: Mapping[str, float], title: str) -> go.Figure:
    """The largest shares as bars, each with a line at what chance gives.

    Args:
        shares: Share of each decision.
        chance: Share that each decision stays below by chance.
        title: Title of the figure.
    """
    figure = empty_figure(height=90 + 24 * min(len(shares), MOST))
    names = sorted(shares, key=lambda name: -shares[name])[:MOST][::-1]  # the first one stands at the top
    if not names:
        return figure
    places = list(range(len(names)))
    by_chance = [chance.get(name, 0.0) for name in names]
    figure.add_bar(
        x=[shares[name] for name in names],
        y=places,
        orientation="h",
        marker={"color": [BLUE if shares[name] > chance.get(name, 0.0) else PALE for name in names]},
        hovertext=[
            f"<b>{escape(name)}</b><br>share {shares[name]:.3f}, by chance up to {limit:.3f}"
            for name, limit in zip(names, by_chance, strict=True)
        ],
        hoverinfo="text",
    )
    figure.add_scatter(
        x=by_chance,
        y=places,
        mode="markers",
        marker={"symbol": "line-ns", "size": 14, "line": {"color": INK, "width": 2}},
        hoverinfo="skip",
    )
    figure.update_xaxes(rangemode="tozero", tickformat=".0%", nticks=5)
    figure.update_yaxes(
        tickvals=places, ticktext=[escape(units.shorten(name, 26)) for name in names], showgrid=False, ticks=""
    )
    figure.update_layout(
        title={"text": escape(title), "font": {"size": 13}, "x": 0.01, "y": 0.99, "yanchor": "top"},
        margin={"t": 30, "l": 8, "r": 12, "b": 32},
        bargap=0.3,
        showlegend=False,
    )
    return figure
