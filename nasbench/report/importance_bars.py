"""The section on which decisions mattered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from nasbench.report import page, units
from nasbench.report.figures import BLUE, INK, PALE, empty_figure, escape
from nasbench.report.page import missing, safe

Record = Mapping[str, Any]

MOST = 10  # decisions that are drawn
NOTE = (
    "How much the options of the best quarter of the candidates differ from those of all, by Optuna's PED-ANOVA, as "
    "shares that add up to one. The black line is what 19 of 20 shares by chance stay below: dealing out the same "
    "values at random gives bars up to there, and of twenty decisions that do not matter one is expected beyond its "
    "line. Blue bars are beyond theirs. It says what mattered among the candidates of this search: a controller that "
    "prefers some options makes others rare."
)


def importance_section(report: Record) -> str:
    """A chart for each objective, or the sentence that says why there is none (HTML)."""
    told, chance = report.get("importance") or {}, report.get("importance_by_chance") or {}
    if not told:
        return missing("No candidate has a result to compare yet.")
    drawn, sentences = [], []
    for metric, shares in told.items():
        words = units.METRICS.get(metric, (metric, ""))[0].capitalize()
        if isinstance(shares, str):
            sentences.append(missing(f"{words}: {shares}."))
            continue
        figure = importance_bars(shares, chance.get(metric) or {}, words)
        drawn.append(page.plot(figure, f"importance-{metric}", tools=False))
        beyond = [name for name, share in shares.items() if share > (chance.get(metric) or {}).get(name, 0.0)]
        if not beyond:
            sentences.append(missing(f"{words}: no decision mattered more than chance would make it look."))
    panels = '<div class="panels">\n' + "\n".join(drawn) + "\n</div>\n" if drawn else ""
    note = f'<p class="note">{safe(NOTE)}</p>' if drawn else ""
    return panels + "\n".join(sentences) + note


def importance_bars(shares: Mapping[str, float], chance: Mapping[str, float], title: str) -> go.Figure:
    """The largest shares as bars, each with a line at what chance gives.

    Args:
        shares: by decision.
        chance: the share that each decision stays below by chance.
        title: of the figure.
    """
    figure = empty_figure(height=90 + 24 * min(len(shares), MOST))
    names = sorted(shares, key=lambda name: -shares[name])[:MOST][::-1]  # the first one stands at the top
    if not names:
        return figure
    places = list(range(len(names)))
    by_chance = [chance.get(name, 0.0) for name in names]
    figure.add_trace(
        go.Bar(
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
    )
    figure.add_trace(
        go.Scatter(
            x=by_chance,
            y=places,
            mode="markers",
            marker={"symbol": "line-ns", "size": 14, "line": {"color": INK, "width": 2}},
            hoverinfo="skip",
        )
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
