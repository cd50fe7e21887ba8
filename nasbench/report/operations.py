"""The operations that a differentiable search preferred, epoch by epoch, as figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import plotly.graph_objects as go

from nasbench.report.figures import INK, RED, empty_figure, escape

Record = Mapping[str, Any]
DrawnQuantity = Literal["chosen", "strengths"]

SKIP = (
    "skip"  # in the names of operations that pass their input on: many of them are the collapse that DARTS is known for
)
COLOURS = ("#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#8a929b", "#b8a400")  # after Okabe and Ito


def operations_over_epochs(report: Record, quantity: DrawnQuantity) -> go.Figure:
    """A line for each operation, over the epochs; skip connections stand out.

    Args:
        report: Content of ``report.json``.
        quantity: Quantity to draw: the number of edges of the derived architecture that have the operation, or
            how strongly it is preferred, as the mean over all edges.
    """
    figure = empty_figure(height=340)
    search = report.get("differentiable") or {}
    history = search.get("history") or ()
    if not history:
        return figure
    epochs = [epoch["epoch"] for epoch in history]
    colours = iter(COLOURS * (1 + len(history[0][quantity]) // len(COLOURS)))
    for operation in history[0][quantity]:
        skips = SKIP in operation
        figure.add_scatter(
            x=epochs,
            y=[epoch[quantity][operation] for epoch in history],
            mode="lines" if len(history) > 1 else "markers",
            name=escape(operation),
            line={
                "color": RED if skips else INK if operation == "none" else next(colours),
                "width": 3 if skips else 1.7,
                "dash": "dot" if operation == "none" else "solid",
                "shape": "hv" if quantity == "chosen" else "linear",
            },
            hovertemplate=f"{escape(operation)}: %{{y:.3~g}}<extra></extra>",
        )
    figure.update_xaxes(title_text="epoch of the search", tickformat="d")
    title = f"edges of the {search['edges']}" if quantity == "chosen" else "mean share of an edge"
    figure.update_yaxes(title_text=title, rangemode="tozero")
    figure.update_layout(hovermode="x unified")
    return figure
