"""The changes by each compression stage of a survivor, as a waterfall."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import plotly.graph_objects as go

from nasbench.report import units
from nasbench.report.figures import BLUE, GREEN, GREY, PALE, RED, empty_figure, escape

Record = Mapping[str, Any]
Measure = Literal["accuracy", "latency", "size"]

EAGER = "searched, eager PyTorch"
SHORT = "eager PyTorch"
CUT = 2.5  # a reference this many times above all stages is drawn with its upper part cut off
RESULT = "result"
TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class _Bar:
    """One bar of a waterfall.

    Attributes:
        name: Label below the bar.
        start: Level at which the bar begins: 0 for a whole, the level of the last accepted stage for a change.
        level: Level at which the bar ends; None if that is not known.
        color: Color of the filling.
        hover: Text that is shown when the mouse rests on the bar.
        kept: Whether the recipe went on from this stage.
        change: Change since the last accepted stage, in words.
        interval: 95 % interval of the level, where it was measured as a ratio.
    """

    name: str
    start: float
    level: float | None
    color: str
    hover: str
    kept: bool = True
    change: str = ""
    interval: tuple[float, float] | None = None


def stage_bars(survivor: Record, measure: Measure) -> go.Figure:
    """One measure of a survivor as a waterfall: where it began, what each stage changed, where it ended.

    Latency is given as multiples of the searched network's in eager PyTorch, by the ratios that were timed in turn
    where there are any, with their 95 % intervals; size as multiples of that of the searched network; accuracy in
    percent. A reference far above all stages is cut off, so that they can be told apart. A change for the better is
    green, for the worse red, and grey if it stays within its interval. Rejected stages are grey and hatched, and the
    next stage goes on from the one before them.
    """
    figure = empty_figure(height=300)
    bars = _bars(survivor, measure)
    measured = [bar for bar in bars if bar.level is not None]
    if not measured:
        return figure
    points = 11 if len(bars) <= 5 else 9  # of the labels, which stand side by side
    top = _cut(bars)
    figure.add_trace(_connectors(bars, top))
    figure.add_trace(_steps(bars, top))
    figure.add_trace(_labels(bars, measure, points, top, accuracy_metric(survivor)))
    if top < math.inf:
        figure.add_trace(_breaks(bars, top))
    figure.update_xaxes(
        tickvals=list(range(len(bars))),
        ticktext=[escape(bar.name).replace(", ", ",<br>") for bar in bars],
        tickangle=-40,
        showgrid=False,
        automargin=False,
        range=[-0.6, len(bars) - 0.4],
    )
    ends = [min(end, top) for bar in measured for end in (bar.level, *(bar.interval or ())) if end is not None]
    low, high = _bar_range(ends, zoom=measure == "accuracy")
    title = _title(survivor, measure)
    if low:
        title += f" (axis from {low:g})"
    elif top < math.inf:
        title += ", bar cut"
    figure.update_yaxes(range=[low, high])
    figure.update_layout(
        title={"text": title, "font": {"size": 13}, "x": 0.01, "y": 0.98, "yanchor": "top"},
        margin={"t": 40, "l": 52, "r": 8, "b": 88},
        bargap=0.25,
        showlegend=False,
    )
    return figure


def accuracy_metric(survivor: Record) -> str:
    """The quality of test data if any stage has one, such as test_acc_pct, else that of validation; never a mixture."""
    stages = survivor.get("stages") or ()
    val = str((survivor.get("quality") or {}).get("metric", "val_acc_pct"))
    test = "test_" + val.removeprefix("val_")
    tested = any(units.number((stage.get("metrics") or {}).get(test)) is not None for stage in stages)
    return test if tested else val


def _more_is_better(survivor: Record, measure: Measure) -> bool:
    return measure == "accuracy" and (survivor.get("quality") or {}).get("goal") != "min"


def stage_values(survivor: Record, measure: Measure) -> list[tuple[Record, float | None]]:
    """Every stage of a survivor with its quality, its median latency in ms, or its size in bytes."""
    key = {"accuracy": accuracy_metric(survivor), "latency": "latency_ms", "size": "size_bytes"}[measure]
    return [(stage, units.median_ms((stage.get("metrics") or {}).get(key))) for stage in survivor.get("stages") or ()]


def _bars(survivor: Record, measure: Measure) -> list[_Bar]:
    """The reference, the stages, and the result if any stage came after the first."""
    rows = stage_values(survivor, measure)
    if all(value is None for _, value in rows):
        return []
    eager = _eager(survivor) if measure == "latency" else None
    metric = accuracy_metric(survivor)
    bars: list[_Bar] = []
    last: float | None = None
    if eager is not None:
        hover = _hover(EAGER, {"metrics": {"latency_ms": eager}, "accepted": True}, None, measure, metric)
        bars.append(_Bar(SHORT, 0.0, 1.0, GREY, hover))
        last = 1.0
    for stage, value in rows:
        level, interval = _level(survivor, stage, value, measure)
        accepted = bool(stage.get("accepted"))
        bars.append(
            _Bar(
                str(stage.get("name")),
                last or 0.0,
                level,
                PALE if not accepted else _color(level, last, interval, _more_is_better(survivor, measure)),
                _hover(str(stage.get("name")), stage, value, measure, metric),
                accepted,
                _change(level, last, measure, metric),
                interval,
            )
        )
        if accepted and level is not None:
            last = level
    if last is not None and len(rows) > 1:
        bars.append(_Bar(RESULT, 0.0, last, BLUE, f"<b>{RESULT}</b><br>{_written(last, measure, metric)}"))
    return bars


def _color(level: float | None, last: float | None, interval: tuple[float, float] | None, more: bool) -> str:
    """The color of an accepted stage: whether it was better than the one before it, beyond its noise if known."""
    if last is None or level is None:
        return BLUE
    low, high = interval or (level, level)
    if low <= last <= high:
        return GREY
    return GREEN if (level > last) == more else RED


def _eager(survivor: Record) -> Record | None:
    latency = (survivor.get("baseline") or {}).get("latency_ms")
    return latency if units.median_ms(latency) else None


def _level(
    survivor: Record, stage: Record, value: float | None, measure: Measure
) -> tuple[float | None, tuple[float, float] | None]:
    """The level of a stage, with its interval; None where it was not measured, or not comparably with its reference.

    The reference of size, and of latency where the network was not timed in eager PyTorch, is the first stage.
    """
    if value is None or measure == "accuracy":
        return value, None
    first = survivor["stages"][0].get("metrics") or {}
    if measure == "size":
        whole = units.number(first.get("size_bytes"))
        return (value / whole if whole else None), None
    metrics = stage.get("metrics") or {}
    eager = _eager(survivor)
    ratio = metrics.get("of_eager") or {}
    level, low, high = (units.number(ratio.get(key)) for key in ("ratio", "low", "high"))
    if eager is not None and level is not None and low is not None and high is not None:
        return level, (low, high)
    reference = eager or first.get("latency_ms")
    whole = units.median_ms(reference)
    if not whole or not units.comparable(metrics.get("latency_ms"), reference):
        return None, None
    return value / whole, None


def _change(level: float | None, last: float | None, measure: Measure, metric: str) -> str:
    return units.quality_change(level, last, metric) if measure == "accuracy" else units.relative(level, last)


def _written(level: float, measure: Measure, metric: str) -> str:
    """Two digits of small multiples are enough, and three do not fit side by side."""
    if measure == "accuracy":
        return units.quality_text(level, metric, unit=False)
    return f"{level:.2g}{TIMES}" if 1e-4 < level < 0.1 else f"{units.significant(level)}{TIMES}"


def _cut(bars: Sequence[_Bar]) -> float:
    """The height at which bars are cut off: above all but the reference in eager PyTorch, if that is far off."""
    levels = [bar.level for bar in bars if bar.level is not None and bar.name != SHORT]
    highest = max(levels, default=0.0)
    if bars[0].name != SHORT or not highest or (bars[0].level or 0.0) < CUT * highest:
        return math.inf
    return 1.5 * highest


def _steps(bars: Sequence[_Bar], top: float) -> go.Bar:
    errors = [
        (0.0, 0.0)
        if bar.interval is None or bar.level is None
        else (bar.interval[1] - bar.level, bar.level - bar.interval[0])
        for bar in bars
    ]
    return go.Bar(
        x=list(range(len(bars))),
        base=[min(bar.start, top) for bar in bars],
        y=[None if bar.level is None else min(bar.level, top) - min(bar.start, top) for bar in bars],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [up for up, _ in errors],
            "arrayminus": [down for _, down in errors],
            "thickness": 1,
            "width": 3,
            "visible": any(up or down for up, down in errors),
        },
        marker={
            "color": [bar.color for bar in bars],
            "line": {"color": [bar.color if bar.kept else GREY for bar in bars], "width": 1},
            "pattern": {"shape": ["" if bar.kept else "/" for bar in bars], "fgcolor": GREY, "size": 5},
        },
        hovertext=[bar.hover for bar in bars],
        hoverinfo="text",
    )


def _labels(bars: Sequence[_Bar], measure: Measure, points: int, top: float, metric: str) -> go.Scatter:
    """Above each bar its level, and the change below that."""
    texts: list[str] = []
    heights: list[float | None] = []
    for bar in bars:
        small = f"<br><span style='font-size:{points - 1}px'>{bar.change}</span>" if bar.change else ""
        texts.append("" if bar.level is None else _written(bar.level, measure, metric) + small)
        heights.append(None if bar.level is None else min(top, max(bar.start, bar.level, *(bar.interval or ()))))
    return go.Scatter(
        x=list(range(len(bars))),
        y=heights,
        text=texts,
        mode="text",
        textposition="top center",
        textfont={"size": points},
        cliponaxis=False,
        hoverinfo="skip",
    )


def _connectors(bars: Sequence[_Bar], top: float) -> go.Scatter:
    """Thin lines from the level that a stage left to where the next one begins."""
    across: list[float | None] = []
    up: list[float | None] = []
    for place, bar in enumerate(bars):
        if bar.kept and bar.level is not None and place + 1 < len(bars):
            after = next((at for at in range(place + 1, len(bars)) if bars[at].kept), place + 1)
            across += [place, after, None]
            up += [min(bar.level, top), min(bar.level, top), None]
    return go.Scatter(x=across, y=up, mode="lines", line={"color": GREY, "width": 1}, hoverinfo="skip")


def _breaks(bars: Sequence[_Bar], top: float) -> go.Scatter:
    """A white sign on every bar whose upper part is cut off."""
    places = [place for place, bar in enumerate(bars) if max(bar.start, bar.level or 0.0) > top]
    return go.Scatter(
        x=places,
        y=[0.86 * top] * len(places),
        mode="text",
        text=["<b>\N{ALMOST EQUAL TO}</b>"] * len(places),
        textfont={"size": 24, "color": "white"},
        hoverinfo="skip",
    )


def _title(survivor: Record, measure: Measure) -> str:
    if measure == "accuracy":
        return units.label(accuracy_metric(survivor))
    first = survivor["stages"][0].get("metrics") or {}
    if measure == "size":
        return f"size, {TIMES} searched ({units.size(units.number(first.get('size_bytes')))})"
    eager = _eager(survivor)
    name = "searched" if eager is None else "eager PyTorch"
    return f"latency, {TIMES} {name} ({units.significant(units.median_ms(eager or first.get('latency_ms')))} ms)"


def _hover(name: str, stage: Record, value: float | None, measure: Measure, metric: str) -> str:
    rows = [f"<b>{escape(name)}</b>" + ("" if stage.get("accepted") else " (rejected)")]
    if value is not None and measure != "latency":
        rows.append(units.quality_text(value, metric) if measure == "accuracy" else f"{value:,.0f} bytes")
    latency = (stage.get("metrics") or {}).get("latency_ms")
    if measure == "latency" and isinstance(latency, Mapping):
        quantiles = [f"{key} {units.significant(units.number(latency.get(key)))}" for key in ("median", "p95", "iqr")]
        rows.append(", ".join(quantiles) + " ms" + (" (unstable)" if latency.get("unstable") else ""))
        conditions = [
            f"{key} {latency[key]}" for key in ("batch", "threads", "repeats") if latency.get(key) is not None
        ]
        conditions += [str(latency[key]) for key in ("runtime", "precision", "device", "estimator") if latency.get(key)]
        rows += [escape(line) for line in units.lines(", ".join(conditions))]
    if stage.get("reason"):
        rows += [escape(line) for line in units.lines(str(stage["reason"]))]
    return "<br>".join(rows)


def _bar_range(values: Sequence[float], *, zoom: bool) -> tuple[float, float]:
    """From zero, or around the values on whole or tenth percents; with room for the labels at the top."""
    low, high = min(values), max(values)
    if not zoom:
        return 0.0, 1.2 * high or 1.0
    room = max(0.25 * (high - low), 0.3)
    step = 1 if high - low > 2 else 0.1
    below = max(0.0, step * math.floor((low - room) / step))
    return below, high + 0.2 * (high - below)
