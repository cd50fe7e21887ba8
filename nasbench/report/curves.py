"""The learning curves of the candidates in one figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from nasbench.report import figures, units
from nasbench.report.figures import BLUE, GREEN, GREY, INK, RED

Record = Mapping[str, Any]
Curve = list[tuple[int, float]]

MOST = 400  # curves: more are neither seen apart nor drawn quickly
LINES = {
    "done": ("trained to the end", {"color": GREY, "width": 1}, 0.55),
    figures.FAILED: ("failed", {"color": INK, "width": 1, "dash": "dot"}, 0.8),
    "running": ("running", {"color": BLUE, "width": 1}, 0.6),
    figures.STOPPED: ("stopped early", {"color": GREEN, "width": 1.2}, 0.8),
}


def learning_curves(report: Record) -> go.Figure:
    """The quality by epoch, such as accuracy; a dot ends what was stopped early, and the best candidate stands out."""
    figure = figures.empty_figure(height=380)
    shown = shown_curves(report)
    if not shown:
        return figure
    best = _best(report)
    for kind, (name, line, opacity) in LINES.items():
        drawn = [candidate for candidate in shown if _kind(candidate) == kind and candidate["id"] != best]
        _lines(figure, drawn, name, line, opacity)
        if kind == figures.STOPPED:
            _ends(figure, drawn)
    _lines(
        figure,
        [candidate for candidate in shown if candidate["id"] == best],
        "best candidate",
        {"color": RED, "width": 2.5},
        1.0,
    )
    epochs = [epoch for candidate in shown for epoch, _ in curve(candidate)]
    figure.update_xaxes(title_text="epoch", range=[min(epochs) - 0.3, max(epochs) + 0.3])
    figure.update_xaxes(tickformat="d", dtick=1 if max(epochs) - min(epochs) <= 15 else None)
    figure.update_yaxes(title_text=figures.escape(units.label(quality_of(report))))
    return figure


def quality_of(report: Record) -> str:
    """The metric of the curves: that of the problem of a run."""
    return str(report.get("quality") or "val_acc_pct")


def shown_curves(report: Record) -> list[Record]:
    """The candidates whose curves are drawn: those of two points and more, thinned out evenly if there are too many."""
    candidates = [candidate for candidate in report.get("candidates") or () if len(curve(candidate)) > 1]
    if len(candidates) <= MOST:
        return candidates
    best = _best(report)
    sampled = {candidates[round(index * (len(candidates) - 1) / (MOST - 1))]["id"] for index in range(MOST)}
    return [candidate for candidate in candidates if candidate["id"] in sampled or candidate["id"] == best]


def curve(candidate: Record) -> Curve:
    """The epochs at which a candidate was validated, with its quality, such as its accuracy in percent."""
    recorded = candidate.get("curve") or {}
    points = [
        (int(epoch), value)
        for epoch, recorded_value in recorded.items()
        if (value := units.number(recorded_value)) is not None
    ]
    return sorted(points)


def _kind(candidate: Record) -> str:
    """The status of a candidate; one that was only trained for fewer epochs than others counts as done."""
    kind = figures.status(candidate)
    return "done" if kind == figures.SHORTER else kind


def _best(report: Record) -> int | None:
    _, goal, scores = figures.progress_scores(report)
    done = {candidate["id"] for candidate in report.get("candidates") or () if figures.status(candidate) == "done"}
    judged = {number: score for number, score in scores.items() if number in done}
    return (max if goal == "max" else min)(judged, key=lambda number: judged[number], default=None)


def _lines(figure: go.Figure, candidates: Sequence[Record], name: str, line: Record, opacity: float) -> None:
    """All lines as one trace, with gaps between them: hundreds of traces would be slow."""
    points = [
        point
        for candidate in candidates
        for point in [*((candidate["id"], *at) for at in curve(candidate)), (None, None, None)]
    ]
    if not points:
        return
    figure.add_scatter(
        x=[epoch for _, epoch, _ in points],
        y=[accuracy for _, _, accuracy in points],
        customdata=[number for number, _, _ in points],
        name=name,
        mode="lines",
        line=dict(line),
        opacity=opacity,
        connectgaps=False,
        hovertemplate=_hover(name),
    )


def _ends(figure: go.Figure, candidates: Iterable[Record]) -> None:
    ends = [(candidate["id"], *curve(candidate)[-1]) for candidate in candidates]
    if ends:
        figure.add_scatter(
            x=[epoch for _, epoch, _ in ends],
            y=[accuracy for _, _, accuracy in ends],
            customdata=[number for number, _, _ in ends],
            name="stopped here",
            mode="markers",
            marker={"size": 6, "color": GREEN},
            showlegend=False,
            hovertemplate=_hover("stopped here"),
        )


def _hover(name: str) -> str:
    return f"<b>candidate %{{customdata}}</b> ({name})<br>epoch %{{x}}: %{{y:.4g}}<extra></extra>"
