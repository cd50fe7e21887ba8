"""Pages of notebooks: their texts, code and stored outputs as Markdown, with pictures that work offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
from markupsafe import escape

CONFIG = {"responsive": True, "displaylogo": False, "displayModeBar": False, "showSendToCloud": False}
LONGEST = 60
"""Lines of a printed output that a page shows."""


def notebook_page(path: Path, plotly: str) -> str:
    """The Markdown of a notebook.

    Args:
        path: The notebook, with the outputs of its last run.
        plotly: Address of plotly.js, relative to the page.
    """
    notebook = nbformat.read(path, as_version=4)
    parts, figures = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source.replace(".ipynb)", ".md)"))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "application/vnd.plotly.v1+json" in data:
                figures += 1
                parts.append(_figure(data["application/vnd.plotly.v1+json"], f"figure-{figures}"))
            elif "image/svg+xml" in data:
                parts.append(f'<div class="drawing">{_text(data["image/svg+xml"])}</div>')
            elif "text/html" in data:
                parts.append(f'<div class="output">{_text(data["text/html"])}</div>')
            else:
                text = _text(output.get("text", "") or data.get("text/plain", ""))
                parts.append(_printed(text))
    if figures:
        parts.insert(1, f'<script src="{plotly}"></script>')
    parts.append(f"The notebook itself: [{path.name}]({path.name}).")
    return "\n\n".join(part for part in parts if part) + "\n"


def _text(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


def _printed(text: str) -> str:
    lines = text.rstrip().splitlines()
    if not lines:
        return ""
    shown = lines[:LONGEST] + ([f"... {len(lines) - LONGEST} more lines"] if len(lines) > LONGEST else [])
    return '<pre class="output">' + str(escape("\n".join(shown))) + "</pre>"


def _figure(figure: dict[str, Any], name: str) -> str:
    height = (figure.get("layout") or {}).get("height") or 420
    drawn = json.dumps([figure["data"], figure["layout"], CONFIG]).replace("</", "<\\/")
    return (
        f'<div id="{name}" class="plot" style="height:{height}px"></div>'
        f"<script>Plotly.newPlot({json.dumps(name)}, ...{drawn})</script>"
    )
