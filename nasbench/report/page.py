"""Pages from the templates of this folder: each carries its style and plotly.js, and asks the network nothing."""

from __future__ import annotations

import base64
import functools
import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from nasbench.report import units
from nasbench.report.recipe_text import recipe_steps
from nasbench.storage.files import write_text

BUTTONS = ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"]


def plot(figure: Any, name: str, *, tools: bool = True) -> Markup:
    """The HTML of a Plotly figure, whose element is called ``name``; the document brings plotly.js."""
    # From version 4 on plotly.js offers to send a chart to its maker's server: a report stays where it is.
    config = {"responsive": True, "displaylogo": False, "showSendToCloud": False, "modeBarButtonsToRemove": BUTTONS}
    if not tools:
        config["displayModeBar"] = False
    drawn = figure.to_html(
        full_html=False, include_plotlyjs=False, include_mathjax=False, config=config, div_id=name, validate=False
    )
    # plotly.js is unpacked while the page is read: figures are drawn when it is there.
    drawn = drawn.replace("<div id=", f'<div role="img" aria-label="chart: {name.replace("-", " ")}" id=', 1)
    before, script, after = re.split(r"<script[^>]*>|</script>", re.sub(r" {3,}", " ", drawn))
    return Markup(f"{before}<script>plotlyReady.then(() => {{{script}}});</script>{after}")


@functools.cache
def packed_plotly() -> Markup:
    """plotly.js as a text for `unpack.js`: gzip in base 85, two fifths of its 4.8 MB, without characters of HTML."""
    packed = base64.b85encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode("ascii")
    return Markup(packed.translate(str.maketrans("<&", ",.")))


def _known(write: Callable[[float | None], str]) -> Callable[[object], str]:
    return lambda value: write(units.number(value))


# What a report does not have yet is undefined in a template, and no filter takes it for a number.
TEMPLATES = Environment(
    loader=PackageLoader("nasbench.report"),
    autoescape=True,
    undefined=ChainableUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {
    write.__name__: _known(write)
    for write in (units.significant, units.percentage, units.count, units.size, units.duration)
}
TEMPLATES.filters |= {
    function.__name__: function
    for function in (
        units.number,
        units.median_ms,
        units.comparable,
        units.relative,
        units.points,
        units.signed,
        units.outcome,
        units.shorten,
        units.words,
        units.unit,
        units.label,
        units.quality_text,
        units.quality_change,
        recipe_steps,
    )
}
TEMPLATES.globals |= {
    "plot": plot,
    "plotly_js": packed_plotly,
    "MISSING": units.MISSING,
    "METRICS": units.METRICS,
}


def write_page(template: str, path: Path, **values: Any) -> None:
    """Fill a template and write the page, whole or not at all.

    Args:
        template: Name of a file in the folder ``templates``.
        path: File that is written.
        values: Variables of the template by name; texts are escaped, `Markup` is not.
    """
    write_text(path, TEMPLATES.get_template(template).render(values))


def drawing(file: Path) -> Markup:
    """An SVG drawing of this framework, to stand in a page."""
    return Markup(file.read_text(encoding="utf-8"))
