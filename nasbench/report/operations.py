"""What a differentiable search preferred, epoch by epoch, as figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import plotly.graph_objects as go

from nasbench.report.figures import INK, RED, empty_figure, escape

Record = Mapping[str, Any]
Told = Literal["chosen", "strengths"]

SKIP = (
    "skip"  # in the names of operations that pass their input on: many of them are the collapse that DARTS is known for
)
COLOURS = ("#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#8a929b", "#b8a400")  # after Okabe and Ito


def operations_over_epochs(report: Record, told: Told) -> go.Figure:
    """A line for each operation, over the epochs; skip connections stand out.

    Args:
        report: the content of ``report.json``.
        told: on how many edges of the derived architecture the operation is, or how much it is preferred, as the mean
            over all edges.
    """
    figure = empty_figure(height=340)
    search = report.get("differentiable") or {}
    history = search.get("history") or ()
    if not history:
        return figure
    epochs = [each["epoch"] for each in history]
    colours = iter(COLOURS * (1 + len(history[0][told]) // len(COLOURS)))
    for operation in history[0][told]:
        skips = SKIP in operation
        figure.add_scatter(
            x=epochs,
            y=[each[told][operation] for each in history],
            mode="lines" if len(history) > 1 else "markers",
            name=escape(operation),
            line={
                "color": RED if skips else INK if operation == "none" else next(colours),
                "width": 3 if skips else 1.7,
                "dash": "dot" if operation == "none" else "solid",
                "shape": "hv" if told == "chosen" else "linear",
            },
            hovertemplate=f"{escape(operation)}: %{{y:.3~g}}<extra></extra>",
        )
    figure.update_xaxes(title_text="epoch of the search", tickformat="d")
    title = f"edges of the {search['edges']}" if told == "chosen" else "mean share of an edge"
    figure.update_yaxes(title_text=title, rangemode="tozero")
    figure.update_layout(hovermode="x unified")
    return figure
