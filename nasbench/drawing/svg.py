"""An architecture as a picture: SVG that needs no font, style sheet, script or identifier from outside.

It has no identifiers and no style sheet of its own either, so that any number of pictures stand in one page; its
background is white in a dark page, too.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from nasbench.drawing.layered import layered_layout
from nasbench.drawing.layout import (
    PAGE_WIDTH,
    Arrow,
    Box,
    Layout,
    Path,
    Point,
    Rect,
    Text,
    chain_layout,
    corner_radius,
    title_text,
)
from search_spaces.diagram import Graph

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK, SOFT, LINE, FRAME = "#1c2126", "#5b646d", "#6d7781", "#dfe3e7"
MARGIN, BETWEEN, UNDER_TITLE = 20.0, 40.0, 14.0

# Fill and border; dark text is read well on every one of them.
OPERATIONS = (
    ("#d6e8fa", "#4a86c0"),  # blue
    ("#ffe2c4", "#c98236"),  # orange
    ("#d5f0d8", "#4f9a5a"),  # green
    ("#f9d9e6", "#c0628c"),  # pink
    ("#e6dcf7", "#8465bd"),  # violet
    ("#fbf0b4", "#a8921c"),  # yellow
    ("#cdeeee", "#38959a"),  # teal
    ("#f6d5cd", "#bd6350"),  # red
    ("#e4e9c6", "#84923a"),  # olive
    ("#e9dccb", "#96724a"),  # brown
    ("#d5f5e6", "#2f9e6e"),  # mint
    ("#dde2ff", "#5c6bc9"),  # indigo
    ("#f3dbf5", "#a253ac"),  # magenta
    ("#e3f2b8", "#7c9a1c"),  # lime
)
FILLS = {"input": ("#e9edf1", "#6d7781"), "output": ("#2f3b47", "#2f3b47"), "value": ("#ffffff", "#1c2126")}

Colours = Mapping[str, tuple[str, str]]


def svg(graphs: Sequence[Graph], *, title: str = "", colours: Colours | None = None) -> str:
    """The graphs in one SVG document, side by side where they fit and else below each other.

    Args:
        graphs: Graphs to draw: a chain in rows of boxes, any other graph in layers.
        title: Title above all of them, if it is not empty.
        colours: Colours of the operations, where several documents must agree on them; by default those of `graphs`.

    Raises:
        UserError: A graph has a cycle, two nodes of one name, or an edge to a node that it does not have.
    """
    layouts = [lay_out(graph) for graph in graphs]
    head = title_text(title, max([480.0, *map(_width, layouts)]))
    top = MARGIN + (head.size + BETWEEN / 2 if head.shown else 0.0)
    places = [(x + MARGIN, y + top, layout) for x, y, layout in arrange(layouts)]
    width = max([head.width + MARGIN, *(x + _width(layout) for x, _, layout in places)]) + MARGIN
    height = max([top, *(y + _height(layout) for _, y, layout in places)]) + MARGIN
    colours = operation_colours(graphs) | dict(colours or {})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" role="img" '
        f'aria-label={quoteattr(_clean(head.full or "architecture"))} font-family="{FONT}">',
        f'<rect x="0.5" y="0.5" width="{_n(width - 1)}" height="{_n(height - 1)}" rx="8" fill="#ffffff" '
        f'stroke="{FRAME}"/>',
    ]
    if head.shown:
        parts.append(_text(head, MARGIN, MARGIN + head.size, INK, anchor="start"))
    for x, y, layout in places:
        parts.append(f'<g transform="translate({_n(x)} {_n(y)})">')
        if layout.title.shown:
            parts.append(_text(layout.title, 0, layout.title.size, SOFT if head.shown else INK, anchor="start"))
            parts.append(f'<g transform="translate(0 {_n(layout.title.size + UNDER_TITLE)})">')
        parts += [_line(arrow) for arrow in layout.arrows]
        parts += [_box(box, colours) for box in layout.boxes]
        parts += [_chip(arrow, colours) for arrow in layout.arrows]
        parts.append("</g></g>" if layout.title.shown else "</g>")
    return "\n".join([*parts, "</svg>\n"])


def lay_out(graph: Graph) -> Layout:
    """The layout of a graph: rows for a chain, layers for any other."""
    plain = graph.is_chain and not any(edge.label.strip() for edge in graph.edges)
    return chain_layout(graph) if plain else layered_layout(graph)


def arrange(layouts: Iterable[Layout]) -> list[tuple[float, float, Layout]]:
    """The layouts with their upper left corners: in rows as wide as a page."""
    places: list[tuple[float, float, Layout]] = []
    x = y = bottom = 0.0
    for layout in layouts:
        if x and x + _width(layout) > PAGE_WIDTH:
            x, y = 0.0, bottom + BETWEEN
        places.append((x, y, layout))
        x += _width(layout) + BETWEEN
        bottom = max(bottom, y + _height(layout))
    return places


def operation_colours(graphs: Iterable[Graph]) -> dict[str, tuple[str, str]]:
    """Fill and border of every operation: its own as long as there are enough colours, and mostly the same anywhere."""
    graphs = list(graphs)
    labels = {node.label for graph in graphs for node in graph.nodes if node.kind not in FILLS}
    labels |= {edge.label for graph in graphs for edge in graph.edges if edge.label}
    colours: dict[str, int] = {}
    for label in sorted(labels):
        first = zlib.crc32(label.encode("utf-8", "replace")) % len(OPERATIONS)
        order = [*range(first, len(OPERATIONS)), *range(first)]
        used_colours = set(colours.values())
        colours[label] = next((index for index in order if index not in used_colours), first)
    return {label: OPERATIONS[index] for label, index in colours.items()}


def _width(layout: Layout) -> float:
    return max(layout.width, layout.title.width)


def _height(layout: Layout) -> float:
    return layout.height + (layout.title.size + UNDER_TITLE if layout.title.shown else 0.0)


def _box(box: Box, colours: Colours) -> str:
    fill, border = FILLS.get(box.node.kind) or colours[box.node.label]
    ink, soft = ("#ffffff", "#d5dbe1") if box.node.kind == "output" else (INK, "#414a53")
    rect, (x, middle) = box.rect, box.rect.center
    parts = [_rect(rect, fill, border, corner_radius(box.node, rect.width, rect.height))]
    if box.detail.shown:
        parts.append(_text(box.label, x, middle - 3.5, ink))
        parts.append(_text(box.detail, x, middle + 13.0, soft))
    else:
        parts.append(_text(box.label, x, middle + 0.36 * box.label.size, ink))
    return _titled(parts, ": ".join(text.full for text in (box.label, box.detail) if text.full))


def _chip(arrow: Arrow, colours: Colours) -> str:
    label, rect = arrow.label, arrow.chip
    if label is None or rect is None:
        return ""
    fill, border = colours[arrow.edge.label]
    x, middle = rect.center
    halo = Rect(rect.x - 3, rect.y - 2, rect.width + 6, rect.height + 4)
    parts = [_rect(halo, "#ffffff", "none", halo.height / 2), _rect(rect, fill, border, rect.height / 2)]
    return _titled([*parts, _text(label, x, middle + 0.36 * label.size, INK)], label.full)


def _line(arrow: Arrow) -> str:
    """The way of an arrow and its head, which points where the last step leads."""
    (x, y), (before_x, before_y) = arrow.path[-1][-1], arrow.path[-2][-1]
    if abs(x - before_x) > abs(y - before_y):
        head = [(x, y), (x - 8, y - 4), (x - 8, y + 4)]
        stop = (x - 7, y)
    else:
        head = [(x, y), (x - 4, y - 8), (x + 4, y - 8)]
        stop = (x, y - 7)
    path: Path = (*arrow.path[:-1], (stop,))
    corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in head)
    parts = [
        f'<path d="{_steps(path)}" fill="none" stroke="{LINE}" stroke-width="1.5"/>',
        f'<polygon points="{corners}" fill="{LINE}"/>',
    ]
    return "".join(parts)


def _steps(path: Path) -> str:
    letters = {1: "L", 3: "C"}
    written = [f"M{_pair(path[0][0])}"]
    written += [letters[len(step)] + " ".join(_pair(point) for point in step) for step in path[1:]]
    return "".join(written)


def _pair(point: Point) -> str:
    return f"{_n(point[0])} {_n(point[1])}"


def _rect(rect: Rect, fill: str, border: str, radius: float) -> str:
    return (
        f'<rect x="{_n(rect.x)}" y="{_n(rect.y)}" width="{_n(rect.width)}" height="{_n(rect.height)}" '
        f'rx="{_n(radius)}" fill="{fill}" stroke="{border}" stroke-width="1.2"/>'
    )


def _text(text: Text, x: float, y: float, ink: str, *, anchor: str = "middle") -> str:
    weight = ' font-weight="600"' if text.bold else ""
    return (
        f'<text x="{_n(x)}" y="{_n(y)}" font-size="{text.size:g}"{weight} fill="{ink}" text-anchor="{anchor}">'
        f"{escape(_clean(text.shown))}</text>"
    )


def _titled(parts: Iterable[str], title: str) -> str:
    """A group whose title a browser shows when it is pointed at."""
    return f"<g><title>{escape(_clean(title))}</title>{''.join(parts)}</g>"


def _clean(text: str) -> str:
    """The text without the characters that XML does not allow."""
    return "".join(
        character if character.isprintable() or character.isspace() else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def _n(value: float) -> str:
    """A length with at most one decimal."""
    return f"{round(value, 1) + 0.0:g}"
