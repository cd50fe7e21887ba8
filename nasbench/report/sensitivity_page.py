"""The sensitivity of each layer of a network, as one page: a map of layers and settings for each technique."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nasbench.report import figures, units
from nasbench.report.figures import FONT, GREY, INK
from nasbench.report.page import write_page

Record = Mapping[str, Any]

HEAD = 78
TITLES = {"prune": "pruned", "decompose": "decomposed", "quantize": "weights in fewer bits"}
ROW, LONGEST = 22, 34  # height of a layer in pixels; characters of its name
TICKS = (0, 1, 5, 10, 25, 50, 100)
# From white to the vermilion of Okabe and Ito and on to a dark red: light is good, in print too.
SCALE = ((0.0, "#ffffff"), (0.35, "#fbd3b4"), (0.7, "#d55e00"), (1.0, "#6b2400"))


def write_sensitivity_page(result: Record, names: Sequence[str], path: Path, command: str) -> None:
    """Write the page whole or not at all.

    Args:
        result: Result as `nasbench sensitivity --json` prints it.
        names: Names of all modules of the network, in its order.
        path: File that is written.
        command: Command that wrote the page.
    """
    write_page(
        "sensitivity.html.j2",
        path,
        result=result,
        map=sensitivity_figure(result, names),
        command=command,
        setting_text=setting_text,
        judged_by=judged_by(result),
    )


def sensitivity_figure(result: Record, names: Sequence[str]) -> go.Figure:
    """A panel for each technique: a row for each layer, a column for each setting, coloured by the accuracy lost."""
    techniques = [technique for technique in result["techniques"] if technique["layers"]]
    rows = _in_order({layer["layer"] for technique in techniques for layer in technique["layers"]}, names)
    lost = [
        max(attempt["drop_pct"], 0.0)
        for technique in techniques
        for layer in technique["layers"]
        for attempt in layer["tried"]
        if attempt["drop_pct"] is not None
    ]
    top = max([1.0, *lost])
    figure = make_subplots(
        rows=1,
        cols=len(techniques),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        column_widths=[len(technique["settings"]) for technique in techniques],
    )
    for column, technique in enumerate(techniques, start=1):
        figure.add_trace(_map(technique, rows, result["quality"]), row=1, col=column)
        title = f"<b>{TITLES[technique['technique']]}</b><br>{technique['setting']}"
        figure.update_xaxes(
            title={"text": title, "font": {"size": 12}, "standoff": 8},
            type="category",
            side="top",
            showgrid=False,
            ticks="",
            row=1,
            col=column,
        )
    figure.update_yaxes(
        tickvals=rows,
        ticktext=[figures.escape(units.shorten(name, LONGEST)) for name in rows],
        autorange="reversed",
        type="category",
        showgrid=False,
        ticks="",
        automargin=True,
    )
    ticks = [tick for tick in TICKS if tick < 0.8 * top] + [top]
    figure.update_layout(
        template="none",
        height=max(HEAD + 12 + ROW * len(rows), 240),
        margin={"l": 60, "r": 12, "t": HEAD, "b": 12},
        font={"family": FONT, "size": 12, "color": INK},
        plot_bgcolor="#f1f3f5",
        dragmode=False,
        coloraxis={
            "colorscale": [list(step) for step in SCALE],
            "cmin": 0,
            "cmax": math.sqrt(top),
            "colorbar": {
                "title": {"text": "points lost", "side": "right"},
                "tickvals": [math.sqrt(tick) for tick in ticks],
                "ticktext": [f"{tick:.0f}" if tick in TICKS else f"{tick:.1f}" for tick in ticks],
                "thickness": 12,
                "lenmode": "pixels",
                "len": min(200, max(ROW * len(rows), 150)),
                "y": 1,
                "yanchor": "top",
                "outlinecolor": GREY,
            },
        },
    )
    return figure


def setting_text(technique: str, setting: float) -> str:
    """A setting as the heading of a column: ``25 %``, ``4 bits``."""
    return f"{setting:.0f} bits" if technique == "quantize" else f"{100 * setting:g} %"


def _map(technique: Record, rows: Sequence[str], quality: str) -> go.Heatmap:
    layers = {layer["layer"]: layer for layer in technique["layers"]}
    colors, texts, hovers = [], [], []
    for name in rows:
        attempts = layers[name]["tried"] if name in layers else [None] * len(technique["settings"])
        drops = [None if attempt is None else attempt["drop_pct"] for attempt in attempts]
        # The root makes room for small losses, which are those one has to choose between.
        colors.append([None if drop is None else math.sqrt(max(drop, 0.0)) for drop in drops])
        texts.append(["" if drop is None else units.signed(drop, 1) if drop < 0 else f"{drop:.1f}" for drop in drops])
        hovers.append([_hover(layers.get(name), attempt, quality) for attempt in attempts])
    return go.Heatmap(
        x=[setting_text(technique["technique"], setting) for setting in technique["settings"]],
        y=list(rows),
        z=colors,
        text=texts,
        customdata=hovers,
        texttemplate="%{text}",
        textfont={"size": 11},
        hovertemplate="<b>%{y}</b><br>%{customdata}<extra></extra>",
        hoverongaps=False,
        xgap=2,
        ygap=2,
        coloraxis="coloraxis",
    )


def _hover(layer: Record | None, attempt: Record | None, quality: str) -> str:
    if layer is None or attempt is None:
        return ""
    if attempt[quality] is None:
        return figures.escape(attempt["reason"])
    coupled = "".join(f"<br>with {figures.escape(name)}" for name in layer["coupled"])
    return f"{attempt[quality]:.2f} %, {layer['weights']:,} weights{coupled}"


def _in_order(layers: set[str], names: Sequence[str]) -> list[str]:
    """The layers in the order of the network; a merged layer stands where its parts were."""
    order = {name: index for index, name in enumerate(names)}

    def place(name: str) -> tuple[int, str]:
        parent = name
        while parent not in order and "." in parent:
            parent = parent.rpartition(".")[0]
        return order.get(parent, -1), name

    return sorted(layers, key=place)


def judged_by(result: Record) -> str:
    """The quality that the numbers of a result are, in words."""
    if result["quality"] == "val_acc_pct":
        return "Validation accuracy in percent"
    if result["quality"] in units.METRICS:
        return f"{units.METRICS[result['quality']][0].capitalize()} in percent"
    return "Validation quality in percent of that of the network as it is"


def one_image(result: Record) -> str:
    """The points of accuracy of one image, as text; empty where no accuracy is counted."""
    if result["quality"] != "val_acc_pct":
        return ""
    return f"; {result['images']:,} images, so that one is {100 / result['images']:.2g} points"
