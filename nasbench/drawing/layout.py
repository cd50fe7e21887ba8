"""Where everything in a drawing of an architecture stands: measured texts, boxes and arrows; no SVG yet.

Every `Layout` keeps this promise: boxes and the labels of edges stand apart from each other and inside the layout, and
no arrow runs through a box or a label that is not its own.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile

from search_spaces.diagram import Edge, Graph, Node

PAGE_WIDTH = 960.0
LABEL_SIZE, DETAIL_SIZE, CHIP_SIZE, TITLE_SIZE = 13.0, 11.0, 11.5, 14.0  # font sizes, as all lengths, in pixels
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

WIDEST_TEXT = 190.0
BOX_PADDING, CHIP_PADDING = 11.0, 7.0
CHIP_HEIGHT = 20.0
CHAIN_GAP, ROW_GAP, TURN = 30.0, 38.0, 16.0  # between boxes, between rows, and from a row to its return arrow
CORNER = 7.0

Point = tuple[float, float]
# The first step is where the pen is put; then one point is a line to it, three are a cubic Bezier curve.
Path = tuple[tuple[Point, ...], ...]


@dataclass(frozen=True)
class Rect:
    """A rectangle by its upper left corner and its size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The larger x."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The larger y, for y grows downwards."""
        return self.y + self.height

    @property
    def center(self) -> Point:
        """The point in the middle."""
        return self.x + self.width / 2, self.y + self.height / 2

    def overlaps(self, other: Rect) -> bool:
        """Whether the two share more than an edge."""
        across = min(self.right, other.right) - max(self.x, other.x)
        return across > 1e-6 and min(self.bottom, other.bottom) - max(self.y, other.y) > 1e-6


@dataclass(frozen=True)
class Text:
    """A text as it is shown: on one line, and with an ellipsis if it is longer than fits.

    Attributes:
        full: Whole text.
        size: Size of the font.
        bold: Whether the text is bold.
        room: Width that the text may take.
    """

    full: str
    size: float
    bold: bool = False
    room: float = WIDEST_TEXT
    shown: str = field(init=False)
    width: float = field(init=False)

    def __post_init__(self) -> None:
        full = " ".join(self.full.split())
        shown, room = full, self.room
        if text_width(full, self.size, bold=self.bold) > room:
            room -= text_width(ELLIPSIS, self.size, bold=self.bold)
            widths = accumulate(text_width(character, self.size, bold=self.bold) for character in full)
            shown = full[: sum(1 for _ in takewhile(lambda width: width <= room, widths))].rstrip() + ELLIPSIS
        object.__setattr__(self, "full", full)
        object.__setattr__(self, "shown", shown)
        object.__setattr__(self, "width", text_width(shown, self.size, bold=self.bold))


@dataclass(frozen=True)
class Box:
    """A node with its place and the one or two lines in it."""

    node: Node
    rect: Rect
    label: Text
    detail: Text


@dataclass(frozen=True)
class Arrow:
    """An edge with its way from border to border, and its label with the place of that."""

    edge: Edge
    path: Path
    label: Text | None = None
    chip: Rect | None = None


@dataclass(frozen=True)
class Layout:
    """A graph with a place for everything, from (0, 0) to (width, height)."""

    title: Text
    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """About the width of a text in pixels, rather too much: nobody knows the font that a reader has."""
    return sum(map(_character_width, text)) * size * (1.08 if bold else 1.0)


def _character_width(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    if ord(character) > 126:
        return 1.1 if unicodedata.east_asian_width(character) in "WF" else 0.8
    if character in "ijl.,:;'|!I ":
        return 0.35
    if character in 'ftr()[]{}-/\\"`*^':
        return 0.45
    if character in "mwMW@%&":
        return 0.98
    return 0.74 if character.isupper() else 0.64


def box_texts(node: Node) -> tuple[Text, Text]:
    """The two lines in a box; the second may be empty."""
    return Text(node.label, LABEL_SIZE, node.kind != "value"), Text(node.detail, DETAIL_SIZE)


def box_size(node: Node) -> tuple[float, float]:
    """Width and height that the texts of a node need."""
    label, detail = box_texts(node)
    height = 46.0 if detail.shown else 34.0
    return max(height, max(label.width, detail.width) + 2 * BOX_PADDING), height


def corner_radius(node: Node, *size: float) -> float:
    """How round the corners of a box of this size are: a layer is a block, everything else is a pill."""
    return 7.0 if node.kind == "layer" else min(17.0, *(side / 2 for side in size))


def title_text(title: str, room: float = PAGE_WIDTH) -> Text:
    """The title of a graph."""
    return Text(title, TITLE_SIZE, True, room)


def chain_layout(graph: Graph, page_width: float = PAGE_WIDTH) -> Layout:
    """A chain in rows that all run from left to right, joined by arrows that return between them.

    Args:
        graph: Chain without labels at its edges.
        page_width: Width that the rows fill at most, unless a single box is wider.
    """
    sizes = [box_size(node) for node in graph.nodes]
    width = max((width for width, _ in sizes), default=0.0)
    height = max((height for _, height in sizes), default=0.0)
    most = max(1, int((page_width - 2 * TURN + CHAIN_GAP) // (width + CHAIN_GAP)))
    rows = math.ceil(len(sizes) / most)
    columns = math.ceil(len(sizes) / max(rows, 1))
    margin = TURN if rows > 1 else 0.0
    rects = []
    for index in range(len(sizes)):
        row, column = divmod(index, columns)
        x = margin + column * (width + CHAIN_GAP)
        rects.append(Rect(x, row * (height + ROW_GAP), width, height))
    boxes = tuple(Box(node, rect, *box_texts(node)) for node, rect in zip(graph.nodes, rects, strict=True))
    arrows = tuple(
        Arrow(edge, _link(start, end)) for edge, start, end in zip(graph.edges, rects, rects[1:], strict=False)
    )
    across = 2 * margin + columns * (width + CHAIN_GAP) - CHAIN_GAP if sizes else 0.0
    return Layout(title_text(graph.title), across, max((rect.bottom for rect in rects), default=0.0), boxes, arrows)


def _link(first: Rect, second: Rect) -> Path:
    """The way from a box to the next one: straight, or around the ends of two rows."""
    start, end = (first.right, first.center[1]), (second.x, second.center[1])
    if start[1] == end[1]:
        return ((start,), (end,))
    between = (first.bottom + second.y) / 2
    right, left = first.right + TURN, second.x - TURN
    return rounded((start, (right, start[1]), (right, between), (left, between), (left, end[1]), end))


def rounded(corners: Sequence[Point], radius: float = CORNER) -> Path:
    """The path along horizontal and vertical lines whose corners are rounded."""
    path: list[tuple[Point, ...]] = [(corners[0],)]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        path += [(_towards(corner, before, radius),), (corner, corner, _towards(corner, after, radius))]
    return (*path, (corners[-1],))


def _towards(start: Point, end: Point, distance: float) -> Point:
    length = math.hypot(end[0] - start[0], end[1] - start[1])
    part = min(0.5, distance / length) if length else 0.0
    return start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])
