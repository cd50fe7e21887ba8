r"""The layout of a graph without cycles in layers, after Sugiyama, Tagawa and Toda (1981).

Example: a -> b -> c and a -> c with labels. Nodes stand in the even layers, and every edge has a spot of its own in
each layer that it passes; one in an odd layer holds its label:

    layer   0        1         2         3        4
            a --- [conv] ----- b ----- [conv] --- c
              \--- [skip] --------------------/

An order within the layers with few crossings is found by barycentres; then coordinates across the flow that keep the
order, with long edges as straight as may be. Between two layers an edge is a curve that stays between them, and in a
layer it is straight, at its spot. So no edge can meet a box or the label of another edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from nasbench.drawing.layering import PORT_STEP, Layers, Segment, Spot, ordered, place_spots, spread_ports
from nasbench.drawing.layout import (
    CHIP_HEIGHT,
    CHIP_PADDING,
    CHIP_SIZE,
    PAGE_WIDTH,
    Arrow,
    Box,
    Layout,
    Path,
    Point,
    Rect,
    Text,
    box_size,
    box_texts,
    corner_radius,
    title_text,
)
from nasbench_registry import UserError
from search_spaces.diagram import Graph

PORT_MARGIN = 10.0
HEAD = 12.0  # of the way into a box that is straight, for the head of the arrow

Column = tuple[float, float]  # where a layer starts and ends along the flow


def layered_layout(graph: Graph, page_width: float = PAGE_WIDTH) -> Layout:
    """The layout of a graph, from left to right, or downwards where that would be wider than the page.

    Raises:
        UserError: The graph has a cycle, two nodes of one name, or an edge to a node that it does not have.
    """
    layered = _Layered(graph, node_ranks(graph))
    right = layered.layout(down=False)
    if right.width <= page_width:
        return right
    down = layered.layout(down=True)
    return down if down.width < right.width else right


def node_ranks(graph: Graph) -> dict[str, int]:
    """For every node the length of the longest path to it; sources that are no inputs stand before what they feed."""
    names = [node.name for node in graph.nodes]
    if len(set(names)) != len(names):
        raise UserError(f"the graph {graph.title!r} has two nodes of the same name among {names}.")
    for edge in graph.edges:
        if missing := {edge.source, edge.target} - set(names):
            raise UserError(f"the graph {graph.title!r} has an edge to {sorted(missing)[0]!r}, which is no node of it.")
    before = {name: [edge.source for edge in graph.edges if edge.target == name] for name in names}
    ranks: dict[str, int] = {}
    while len(ranks) < len(names):
        ready = [name for name in names if name not in ranks and all(source in ranks for source in before[name])]
        if not ready:
            raise UserError(f"the graph {graph.title!r} has a cycle; an architecture has none.")
        for name in ready:
            ranks[name] = max((ranks[source] + 1 for source in before[name]), default=0)
    for node in graph.nodes:
        fed = [ranks[edge.target] for edge in graph.edges if edge.source == node.name]
        if not before[node.name] and fed and node.kind != "input":
            ranks[node.name] = min(fed) - 1
    return ranks


class _Layered:
    """A graph in ordered layers, from which its layouts are made, in coordinates along and across the flow."""

    def __init__(self, graph: Graph, ranks: Mapping[str, int]) -> None:
        self.graph = graph
        pairs = {(edge.source, edge.target) for edge in graph.edges}
        # Without labels and parallel edges there is nothing to put between the layers of nodes.
        self.labels = [Text(edge.label, CHIP_SIZE) if edge.label.strip() else None for edge in graph.edges]
        self.labelled = any(self.labels) or len(pairs) < len(graph.edges)
        self.step = 2 if self.labelled else 1
        self.layers: Layers = [[] for _ in range(self.step * max(ranks.values(), default=0) + 1)]
        self.nodes: dict[str, Spot] = {}
        for node in graph.nodes:
            self.nodes[node.name] = Spot(gap=10.0, real=True)
            self.layers[self.step * ranks[node.name]].append(self.nodes[node.name])
        self.chips: list[Spot | None] = [None] * len(graph.edges)
        self.ways: list[list[Segment]] = [[] for _ in graph.edges]
        self._lay_edges(ranks)
        self.layers = self._right_way_up(ordered(self.layers))

    # ---- spots

    def _lay_edges(self, ranks: Mapping[str, int]) -> None:
        spans = {
            index: range(self.step * ranks[edge.source] + 1, self.step * ranks[edge.target])
            for index, edge in enumerate(self.graph.edges)
        }
        load = [0] * len(self.layers)
        for index, span in sorted(spans.items(), key=lambda item: (len(item[1]), item[0])):
            holder = -1
            if self.labels[index] is not None:
                middle = (span.start + span.stop - 1) / 2
                holder = min(span[::2], key=lambda layer: (abs(layer - middle) / 2 + load[layer], layer))
                load[holder] += 1
            last = self.nodes[self.graph.edges[index].source]
            for layer in span:
                spot = Spot(gap=3.5 if layer == holder else 5.0)
                if layer == holder:
                    self.chips[index] = spot
                self.layers[layer].append(spot)
                self._join(index, last, spot)
                last = spot
            self._join(index, last, self.nodes[self.graph.edges[index].target])

    def _join(self, index: int, start: Spot, end: Spot) -> None:
        segment = Segment(start, end)
        self.ways[index].append(segment)
        start.out.append(segment)
        end.into.append(segment)

    def _right_way_up(self, layers: Layers) -> Layers:
        """The layers, or all of them reversed where more nodes then stand in the order of the graph."""
        number = {spot: index for index, spot in enumerate(self.nodes.values())}
        columns = [[number[spot] for spot in layer if spot.real] for layer in layers]
        agree = sum((a < b) - (a > b) for column in columns for a, b in combinations(column, 2))
        return layers if agree >= 0 else [layer[::-1] for layer in layers]

    # ---- geometry

    def layout(self, *, down: bool) -> Layout:
        """The layout with the flow to the right, or downwards."""
        self._measure(down)
        spread_ports(self.layers)
        passing = [[segment.end for segment in way[:-1]] for way in self.ways if len(way) > 1]
        place_spots(self.layers, [[spot] for spot in self.nodes.values()] + passing)
        spots = [spot for layer in self.layers for spot in layer]
        top = min((spot.at - spot.across / 2 for spot in spots), default=0.0)
        for spot in spots:
            spot.at -= top
        breadth = max((spot.at + spot.across / 2 for spot in spots), default=0.0)
        columns = self._columns()
        of = {spot: column for layer, column in zip(self.layers, columns, strict=True) for spot in layer}

        def turned(along: float, across: float) -> Point:
            return (across, along) if down else (along, across)

        def rect(spot: Spot) -> Rect:
            middle = sum(of[spot]) / 2
            return Rect(*turned(middle - spot.along / 2, spot.at - spot.across / 2), *turned(spot.along, spot.across))

        boxes = tuple(Box(node, rect(self.nodes[node.name]), *box_texts(node)) for node in self.graph.nodes)
        arrows = []
        for edge, way, text, chip in zip(self.graph.edges, self.ways, self.labels, self.chips, strict=True):
            path = tuple(tuple(turned(*point) for point in step) for step in _path(way, of))
            arrows.append(Arrow(edge, path, text, rect(chip) if chip is not None else None))
        return Layout(title_text(self.graph.title), *turned(columns[-1][1], breadth), boxes, tuple(arrows))

    def _measure(self, down: bool) -> None:
        """Set the sizes of all spots."""
        for node in self.graph.nodes:
            spot = self.nodes[node.name]
            width, height = box_size(node)
            ports = (max(len(spot.into), len(spot.out), 1) - 1) * PORT_STEP + 2 * PORT_MARGIN
            spot.along, spot.across = (height, max(width, ports)) if down else (width, max(height, ports))
            spot.radius = corner_radius(node, spot.along, spot.across)
        for text, chip in zip(self.labels, self.chips, strict=True):
            if text is not None and chip is not None:
                size = (text.width + 2 * CHIP_PADDING, CHIP_HEIGHT)
                chip.along, chip.across = size[::-1] if down else size

    def _columns(self) -> list[Column]:
        """Where each layer starts and ends along the flow; steep edges get more room between two layers."""
        columns: list[Column] = []
        for index, layer in enumerate(self.layers):
            start = 0.0
            if index:
                bends = [abs(segment.bend) for spot in layer for segment in spot.into]
                least = 34.0 if not self.labelled else 30.0 if index % 2 == 0 else 22.0
                start = columns[-1][1] + max(least, min(0.4 * max(bends, default=0.0), 72.0))
            columns.append((start, start + max((spot.along for spot in layer), default=0.0)))
        return columns


def _path(way: Sequence[Segment], of: Mapping[Spot, Column]) -> Path:
    """The way of an edge, in coordinates along and across the flow."""
    first, last = way[0], way[-1]
    start = sum(of[first.start]) / 2 + first.start.along / 2 - first.start.inset(first.leaves)
    stop = sum(of[last.end]) / 2 - last.end.along / 2 + last.end.inset(last.arrives)
    path: list[tuple[Point, ...]] = [((start, first.start.at + first.leaves),)]
    for segment in way:
        begin = (of[segment.start][1], segment.start.at + segment.leaves)
        end = (of[segment.end][0] - (HEAD if segment is last else 0.0), segment.end.at + segment.arrives)
        half = (begin[0] + end[0]) / 2
        path.append((begin,))
        path.append(((half, begin[1]), (half, end[1]), end) if abs(segment.bend) > 0.01 else (end,))
    return (*path, ((stop, last.end.at + last.arrives),))
