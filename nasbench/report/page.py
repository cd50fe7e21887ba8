"""The page around the report: one HTML document that carries its style and plotly.js, and asks the network nothing."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from plotly.offline import get_plotlyjs

STYLE = """
:root { --ink: #1c2126; --soft: #5b646d; --line: #dfe3e7; --wash: #f6f7f9; --warn: #9a4a00; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 68rem; background: #fff; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .2rem; }
p { margin: .4rem 0 .8rem; max-width: 50rem; overflow-wrap: anywhere; }
.status { color: var(--soft); margin: 0 0 1rem; }
.status.early { color: var(--warn); font-weight: 600; }
.summary { font-size: 1.05rem; }
dl.summary { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .45rem 1rem; font-size: 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.cards { display: grid; gap: .6rem; margin: 1rem 0; grid-template-columns: repeat(4, minmax(0, 1fr)); }
.card { background: var(--wash); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; }
.card b { display: block; font-size: 1.6rem; line-height: 1.2; }
.card span { display: block; }
.card small { color: var(--soft); }
.shown.full { border: 1px solid var(--line); border-radius: 6px; padding: .2rem .9rem .6rem; margin: .8rem 0; }
.shown h3 { margin-top: .6rem; }
.shown svg { display: block; }
.recipe { font-size: .875rem; }
.front tr.on td { background: #eaf2f9; }
.front code { font-size: .75rem; }
.front td:last-child { min-width: 13rem; }
.front td { white-space: nowrap; }
.front td.text { white-space: normal; }
button { font: inherit; color: #00588a; background: #fff; border: 1px solid #9fb6c6; border-radius: 4px;
  cursor: pointer; min-width: 2.75rem; padding: .25rem .6rem; }
button[aria-pressed="true"] { color: #fff; background: #0072b2; border-color: #0072b2; }
button:focus-visible, summary:focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
.empty, figcaption, .note { color: var(--soft); }
figcaption, .note { font-size: .875rem; max-width: 50rem; }
figure { margin: .6rem 0; min-width: 0; }
figure.square { max-width: 34rem; }
.panels { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem 1rem; }
.panels > div { min-width: 0; }
.scroll { overflow-x: auto; margin: .6rem 0; }
.drawing summary { cursor: pointer; font-size: .875rem; }
.drawing svg { display: block; }
table { border-collapse: collapse; font-size: .875rem; width: 100%; }
th, td { padding: .3rem .6rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
th:first-child, td:first-child, .text { text-align: left; }
.stages td { white-space: nowrap; }
.stages th, .stages td { padding: .3rem .45rem; }
.stages td.verdict { white-space: normal; min-width: 9rem; }
.stages tbody td:first-child { background: #fff; position: sticky; left: 0; white-space: normal; min-width: 5.5rem; }
.group th { background: var(--wash); padding: .5rem .6rem; }
.group div { position: sticky; left: .6rem; max-width: min(60rem, calc(100vw - 4rem)); white-space: normal; }
td small { display: block; color: var(--soft); font-size: .75rem; line-height: 1.2; }
tr.rejected td { color: #8a929b; }
tr.rejected td small { color: inherit; }
code, pre { font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
code { overflow-wrap: anywhere; }
pre { background: var(--wash); border: 1px solid var(--line); border-radius: 4px; padding: .7rem .9rem; margin: .6rem 0;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.kinds td:first-child, .cost td:not(.text) { white-space: nowrap; }
.cost { width: auto; }
.facts { width: auto; }
.facts td { text-align: left; overflow-wrap: anywhere; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 0 2rem; }
@media screen and (max-width: 52rem) { .panels { grid-template-columns: minmax(0, 1fr); } }
@media screen and (max-width: 40rem) { .front .text { display: none; } .cost td:not(.text) { white-space: normal; } }
@media screen and (max-width: 52rem) { .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media screen and (max-width: 40rem) { body { padding: 1rem .75rem 3rem; } .summary { font-size: 1rem; }
  dl.summary { grid-template-columns: minmax(0, 1fr); gap: 0; } dd { margin-bottom: .5rem; }
  .card b { font-size: 1.25rem; }
  .card span, .card small { font-size: .8125rem; } button { min-height: 2.5rem; } }
@media print {
  @page { margin: 12mm; }
  body { max-width: none; padding: 0; font-size: 11pt; }
  figure, .survivor, .drawing, tr { break-inside: avoid; }
  h2, h3, .group { break-after: avoid; }
  .scroll { overflow: visible; }
  .drawing svg { max-width: 100%; height: auto; }
  .stages { zoom: .66; }
  .panels > div { zoom: .66; }
  .modebar { display: none; }
  .front, .kinds { font-size: .7rem; }
  .kinds th, .kinds td { padding: .25rem .4rem; }
  .front small { font-size: .6rem; }
  .card { break-inside: avoid; }
  .shown svg { max-width: 100%; height: auto; }
  button { border: 0; padding: 0; min-width: 0; min-height: 0; color: inherit; background: none; }
  button[aria-pressed="true"] { color: inherit; background: none; font-weight: 600; }
}
"""

# Plotly draws in pixels, so a page as wide as a screen would be cut off by the paper.
PRINT = """
addEventListener("beforeprint", () => document.querySelectorAll(".js-plotly-plot").forEach((plot) => {
  const width = plot.closest(".panels") ? 330 : plot.closest(".square") ? 480 : 680;
  Plotly.relayout(plot, {width: width, autosize: false});
}));
addEventListener("afterprint", () => document.querySelectorAll(".js-plotly-plot").forEach((plot) => {
  Plotly.relayout(plot, {width: null, autosize: true});
}));
"""

BUTTONS = ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"]


def document(title: str, body: str) -> str:
    """The whole file; ``title`` is plain text, ``body`` is HTML."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<script id="plotly-js">{get_plotlyjs()}</script>',
            "</head>",
            f"<body>\n{body}\n<script>{PRINT}</script>\n</body>",
            "</html>\n",
        ]
    )


def safe(value: object) -> str:
    """The value as text that may stand in HTML."""
    return html.escape(str(value))


def section(title: str, body: str) -> str:
    """A part of the page under a heading."""
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>"


def missing(sentence: str) -> str:
    """What stands where there is nothing to show."""
    return f'<p class="empty">{safe(sentence)}</p>'


def facts_table(title: str, told: Mapping[str, object]) -> str:
    """Names and values under a small heading."""
    rows = "".join(f"<tr><td>{safe(key)}</td><td>{safe(value)}</td></tr>" for key, value in told.items())
    table = f'<table class="facts"><tbody>{rows}</tbody></table>' if rows else missing("Not recorded.")
    return f"<h3>{title}</h3>\n{table}"


def plot(figure: Any, name: str, *, tools: bool = True) -> str:
    """The HTML of a Plotly figure, whose element is called ``name``; the document brings plotly.js."""
    # From version 4 on plotly.js offers to send a chart to its maker's server: a report stays where it is.
    config = {"responsive": True, "displaylogo": False, "showSendToCloud": False, "modeBarButtonsToRemove": BUTTONS}
    if not tools:
        config["displayModeBar"] = False
    drawn = figure.to_html(
        full_html=False, include_plotlyjs=False, include_mathjax=False, config=config, div_id=name, validate=False
    )
    return str(drawn)
