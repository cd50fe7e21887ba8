"""The export matrix as one page: a coloured table for each model, what is in a cell on a click, and a chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from nasbench.report import figures, page, units
from nasbench.storage.files import write_text

Record = Mapping[str, Any]

# Okabe and Ito's, dark enough for a mark on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2126", "#8a929b", "#7a5195")
SYMBOLS = {"fp32": "circle", "fp16": "square", "bf16": "diamond", "int8": "triangle-up"}
FAST, SLOW = (0, 114, 178), (213, 94, 0)
DARK = 0.75  # from which depth on text is white
DEEPEST = math.log(20.0)  # twenty times faster, or slower, has the full colour
STYLE = """<style>
.matrix { width: auto; }
.matrix th, .matrix td { padding: .25rem .4rem; text-align: center; vertical-align: middle; white-space: nowrap; }
.matrix td:first-child, .matrix th:first-child { text-align: left; position: sticky; left: 0; background: #fff;
  z-index: 1; }
.matrix tr.next > td { border-top: 2px solid var(--line); }
.matrix td.why { text-align: left; white-space: normal; color: var(--soft); font-size: .8rem; min-width: 16rem; }
.matrix td.none { color: var(--soft); }
.matrix summary { cursor: pointer; list-style: none; }
.matrix summary::-webkit-details-marker { display: none; }
.matrix td[style] small { color: inherit; }
.sheet { position: fixed; left: 0; right: 0; bottom: 0; max-height: 65vh; overflow: auto; z-index: 9; background: #fff;
  color: var(--ink); border-top: 3px solid var(--ink); box-shadow: 0 -4px 24px rgba(0, 0, 0, .2); text-align: left;
  padding: .6rem max(1.25rem, calc(50vw - 33rem)) 1.2rem; white-space: normal; }
.sheet h4 { margin: .2rem 0 .4rem; font-size: 1rem; }
.sheet table { width: auto; }
.sheet td, .sheet td:first-child { text-align: left; padding: .15rem .6rem; position: static; white-space: normal; }
.scale span { display: inline-block; padding: .1rem .5rem; margin-right: 2px; font-size: .8rem; }
@media print { .sheet { display: none; } }
</style>"""


def write_matrix_page(result: Record, path: Path) -> None:
    """Write the page whole or not at all.

    Args:
        result: as `nasbench matrix --json` prints it.
        path: the file.
    """
    parts = []
    for number, model in enumerate(result["models"]):
        cells = [cell for cell in result["cells"] if cell["model"] == model]
        title = "Time as a multiple of eager PyTorch" + (f": {page.safe(model)}" if len(result["models"]) > 1 else "")
        parts.append(page.section(title, f"{_hint(result)}\n{_table(result, cells)}"))
        parts.append(page.section("Accuracy and time", _chart(cells, number)))
        parts.append(page.section("Unsupported", _unsupported(cells)))
    recipes = "\n".join(_recipe(each) for each in result["variants"] if each["model"] == result["models"][0])
    body = "\n".join(
        [
            STYLE,
            f"<header>\n<h1>Export matrix</h1>\n<p class='status'>{page.safe(', '.join(result['models']))}</p>",
            f"<p class='summary'>{_summary(result)}</p>\n</header>",
            *parts,
            page.section("Variants", f"<table class='facts kinds'><tbody>{recipes}</tbody></table>"),
            page.section("How to reproduce", f"<pre>{page.safe(result['command'])}</pre>"),
        ]
    )
    write_text(path, page.document("Export matrix", body))


def reasons(cells: Sequence[Record]) -> list[tuple[str, str]]:
    """Each reason for which there are no numbers, with the cells that it holds for, in words."""
    variants = list(dict.fromkeys(cell["variant"] for cell in cells))
    found: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        if cell["reason"] is not None:
            which = found.setdefault(cell["reason"], {})
            which.setdefault(f"{cell['backend']} {cell['precision']}", []).append(cell["variant"])
    told = []
    for why, which in found.items():
        grouped: dict[str, list[str]] = {}
        for runtime, names in which.items():
            where = "" if len(names) == len(variants) else f" ({', '.join(names)})"
            grouped.setdefault(where, []).append(runtime)
        told.append((why, "; ".join(f"{', '.join(runtimes)}{where}" for where, runtimes in grouped.items())))
    return told


def _summary(result: Record) -> str:
    filled = [cell for cell in result["cells"] if cell["reason"] is None]
    if not filled:
        return "No cell has numbers; the reasons are below."
    best = min(filled, key=lambda cell: float(cell["of_eager"]["ratio"]))
    return (
        f"{len(filled)} of {len(result['cells'])} cells have numbers, each other one a reason. The fastest is "
        f"<b>{page.safe(best['variant'])} in {page.safe(best['backend'])} {page.safe(best['precision'])}</b>: "
        f"{_times(best['of_eager']['ratio'])}, with a {page.safe(_quality(best))}. "
        f"{page.safe(result['machine'])}, {result['threads']} thread{'s' * (result['threads'] != 1)}, batch "
        f"{result['batch']}."
    )


def _times(ratio: float) -> str:
    return units.times(ratio, 1.0, "faster than eager PyTorch", "slower than eager PyTorch", "as fast as eager PyTorch")


def _hint(result: Record) -> str:
    scale = "".join(f"<span style='{_color(ratio)}'>{ratio:g}</span>" for ratio in (0.05, 0.2, 0.5, 1, 2, 5, 20))
    return (
        f"<p class='scale'>{scale}</p>\n<p class='note'>Each cell was timed in turn with the model as it was given, in "
        "eager PyTorch and float32 at the same threads and batch: below 1 it is faster. Below it, "
        "what the network is worth on validation data. Click on a cell for its numbers and operators. Do not trust "
        "small differences between cells: the machine changes from one to the next.</p>"
    )


def _table(result: Record, cells: Sequence[Record]) -> str:
    variants = list(dict.fromkeys(cell["variant"] for cell in cells))
    found = {(cell["backend"], cell["precision"], cell["variant"]): cell for cell in cells}
    lines = []
    for backend in result["backends"]:
        rows = {
            precision: [found[backend, precision, variant] for variant in variants]
            for precision in result["precisions"]
        }
        shared = _shared([cell for row in rows.values() for cell in row])
        if shared is not None:
            lines.append(_row(backend, "every precision", _why(shared, len(variants)), first=True))
            continue
        for number, (precision, row) in enumerate(rows.items()):
            why = _shared(row)
            inside = "".join(_cell(cell) for cell in row) if why is None else _why(why, len(variants))
            lines.append(_row(backend, precision, inside, first=number == 0))
    heads = "".join(f"<th>{page.safe(variant)}</th>" for variant in variants)
    head = f"<thead><tr><th>runtime</th>{heads}</tr></thead>"
    return (
        f"<div class='scroll'><table class='matrix'>{head}\n<tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"
    )


def _shared(cells: Sequence[Record]) -> str | None:
    """The reason for which none of these cells has numbers; None if they differ in it or have some."""
    found = {cell["reason"] for cell in cells}
    return found.pop() if len(found) == 1 else None


def _why(reason: str, columns: int) -> str:
    return f"<td class='why' colspan='{columns}'>unsupported because {page.safe(reason)}</td>"


def _row(backend: str, precision: str, inside: str, *, first: bool) -> str:
    name = f"<td>{page.safe(backend)} <small>{page.safe(precision)}</small></td>"
    return f"<tr{' class=next' if first else ''}>{name}{inside}</tr>"


def _cell(cell: Record) -> str:
    name = page.safe(f"{cell['variant']}, {cell['backend']} {cell['precision']}")
    if cell["reason"] is not None:
        why = f"unsupported because {page.safe(cell['reason'])}"
        return f"<td class='none' title='{why}'>{_sheet(units.MISSING, name, f'<p>{why}</p>')}</td>"
    ratio = float(cell["of_eager"]["ratio"])
    shown = f"{units.significant(ratio)}<small>{units.quality_text(cell[cell['quality']], cell['quality'])}</small>"
    return f"<td style='{_color(ratio)}'>{_sheet(shown, name, _facts(cell))}</td>"


def _sheet(shown: str, name: str, inside: str) -> str:
    close = "onclick='this.parentNode.open = false'"
    return (
        f"<details name='cell'><summary>{shown}</summary><div class='sheet' {close}><h4>{name}</h4>{inside}"
        "<p class='note'>Click here to close this.</p></div></details>"
    )


def _facts(cell: Record) -> str:
    latency, ratio, about = cell["latency_ms"], cell["of_eager"], cell["describe"]
    told = {
        "of eager": f"{ratio['ratio']:.3f} (95 % interval {ratio['low']:.3f} to {ratio['high']:.3f})",
        "latency, ms": f"median {units.significant(latency['median'])}, p95 {units.significant(latency['p95'])}, "
        f"eager {units.significant(cell['eager_latency_ms'])}, {latency['repeats']:,} calls"
        + (", unstable" if latency["unstable"] else ""),
        "validation": _quality(cell),
        "largest logit difference": f"{cell['max_logit_diff']:.2g}, where the largest logit is "
        f"{units.significant(cell['largest_logit'])}",
        "artefact": f"{units.size(cell['size_bytes'])}, made in {units.duration(cell['conversion_s'])}",
    }
    test = cell["quality"].replace("val_", "test_", 1)
    if cell[test] is not None:
        told["test"] = f"{_named(test)} {units.quality_text(cell[test], test)}{_of(cell['test_images'])}"
    told |= {
        "operators given": _operators(about.get("operators")),
        "operators run": _operators(about.get("operators_optimized")),
        "runtime": ", ".join(f"{key} {value}" for key, value in about.items() if isinstance(value, str | int | float)),
    }
    rows = "".join(f"<tr><td>{page.safe(key)}</td><td>{page.safe(value)}</td></tr>" for key, value in told.items())
    return f"<table><tbody>{rows}</tbody></table>"


def _quality(cell: Record) -> str:
    """What a cell is worth on validation data, in words."""
    metric = cell["quality"]
    return f"{_named(metric)} of {units.quality_text(cell[metric], metric)}{_of(cell['val_images'])}"


def _named(metric: str) -> str:
    return units.METRICS.get(metric, (metric, ""))[0]


def _of(images: int | None) -> str:
    return "" if images is None else f" on {images:,} images"


def _operators(counted: Mapping[str, int] | None) -> str:
    if not counted:
        return "the runtime does not tell"
    listed = sorted(counted.items(), key=lambda each: (-each[1], each[0]))
    return f"{sum(counted.values())}: " + ", ".join(f"{count} {kind}" for kind, count in listed)


def _depth(ratio: float) -> float:
    return min(1.0, abs(math.log(max(ratio, 1e-9))) / DEEPEST)


def _color(ratio: float) -> str:
    """Blue for faster, vermilion for slower, white for equal."""
    depth, full = _depth(ratio), FAST if ratio < 1 else SLOW
    red, green, blue = (round(255 + (part - 255) * depth) for part in full)
    return f"background:rgb({red},{green},{blue});color:{'#fff' if depth > DARK else '#1c2126'}"


def _chart(cells: Sequence[Record], number: int) -> str:
    filled = [cell for cell in cells if cell["reason"] is None]
    if not filled:
        return page.missing("No cell has numbers.")
    return (
        f"<figure>\n{page.plot(chart(filled), f'matrix-{number}')}\n<figcaption>Left is faster. "
        "The colour tells the runtime, the mark the precision: circle fp32, square fp16, diamond bf16, triangle int8."
        "</figcaption>\n</figure>"
    )


def chart(cells: Sequence[Record]) -> go.Figure:
    """Accuracy over time as a multiple of eager; a colour for each backend, a mark for each precision."""
    figure = figures.empty_figure(height=420)
    for index, backend in enumerate(dict.fromkeys(cell["backend"] for cell in cells)):
        own = [cell for cell in cells if cell["backend"] == backend]
        figure.add_trace(
            go.Scatter(
                x=[cell["of_eager"]["ratio"] for cell in own],
                y=[cell[cell["quality"]] for cell in own],
                text=[figures.escape(f"{cell['variant']}, {backend} {cell['precision']}") for cell in own],
                name=figures.escape(backend),
                mode="markers",
                marker={
                    "color": COLORS[index % len(COLORS)],
                    "symbol": [SYMBOLS.get(cell["precision"], "x") for cell in own],
                    "size": 10,
                    "opacity": 0.8,
                },
                hovertemplate="%{text}<br>%{x:.3f} of eager, %{y:.4g}<extra></extra>",
            )
        )
    figure.add_vline(1.0, line={"color": figures.GREY, "dash": "dash", "width": 1})
    figure.update_xaxes(title_text="time as a multiple of eager PyTorch", type="log")
    figure.update_yaxes(title_text=figures.escape(units.label(cells[0]["quality"])))
    return figure


def _unsupported(cells: Sequence[Record]) -> str:
    lines = "".join(f"<tr><td>{page.safe(who)}</td><td>{page.safe(why)}</td></tr>" for why, who in reasons(cells))
    return f"<table class='facts'><tbody>{lines}</tbody></table>" if lines else page.missing("Every cell has numbers.")


def _recipe(variant: Record) -> str:
    steps = [
        f"{name}: {', '.join(f'{key}={value}' for key, value in options.items() if value is not None)}"
        for step in variant["recipe"]
        for name, options in step.items()
    ]
    told = "; ".join(steps) or "the model as it was given"
    if variant["reason"]:
        told += f" (failed: {variant['reason']})"
    return f"<tr><td>{page.safe(variant['name'])}</td><td>{page.safe(told)}</td></tr>"
