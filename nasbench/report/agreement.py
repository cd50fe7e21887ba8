"""Networks with shared weights beside the same ones trained alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from nasbench.report import units
from nasbench.report.figures import BLUE, empty_figure, escape


def agreement_figure(agreement: Mapping[str, Any] | None) -> go.Figure:
    """A dot for each network; without traces where none was trained alone.

    Args:
        agreement: Value of the key ``agreement`` of a report.
    """
    figure = empty_figure(height=360)
    if not agreement:
        return figure
    rows = zip(agreement["shared"], agreement["alone"], agreement["architectures"], strict=True)
    quality = units.words(agreement["quality"])
    figure.add_scatter(
        x=agreement["shared"],
        y=agreement["alone"],
        mode="markers",
        marker={"size": 9, "color": BLUE, "opacity": 0.75},
        hovertext=[
            f"<b>{escape(units.shorten(text, 60))}</b><br>shared {shared:.4g}<br>alone {alone:.4g}"
            for shared, alone, text in rows
        ],
        hoverinfo="text",
        showlegend=False,
    )
    figure.update_xaxes(title={"text": f"{quality}, with shared weights"})
    figure.update_yaxes(title={"text": f"{quality}, trained alone"})
    return figure
