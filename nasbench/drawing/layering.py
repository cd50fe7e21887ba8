"""Layers of spots joined by pieces of edges: an order within each layer, then coordinates that keep the order.

The order comes from barycentre sweeps (Sugiyama, Tagawa and Toda 1981) with swaps of neighbours. The coordinates make
the weighted squared bends small, one layer after the other, each by an isotonic regression: the spots of a layer want
to be level with what they are joined to, and must stay in order and apart. At last small bends are taken out.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

SWEEPS, SWAPS, ROUNDS, TOUCHES = 8, 8, 60, 6
STARTS, MOST_SPOTS = 16, 1000  # fewer starts where there are many spots
PORT_STEP = 10.0
WOBBLE = 14.0  # a bend below this looks like a mistake
SLIDE, PORT_LEAST = 5.0, 6.0  # how far a port moves to take a bend out, and how close it may come to another


@dataclass(eq=False)
class Spot:
    """A place in a layer: a node, or where an edge passes.

    Attributes:
        along: Size of the spot in the direction of the flow.
        across: Size of the spot in the other direction.
        gap: Room around the spot, across the flow.
        real: Whether the spot is a node.
        radius: Radius of the corners.
        at: Centre of the spot across the flow.
        into: Pieces of edges that end here.
        out: Pieces of edges that begin here.
    """

    gap: float
    real: bool = False
    along: float = 0.0
    across: float = 0.0
    radius: float = 0.0
    at: float = 0.0
    into: list[Segment] = field(default_factory=list)
    out: list[Segment] = field(default_factory=list)

    @property
    def segments(self) -> list[Segment]:
        """All that ends or begins here."""
        return self.into + self.out

    def inset(self, offset: float) -> float:
        """How far inside its rectangle its border is, at an offset from its centre across the flow."""
        depth = min(abs(offset) - self.across / 2 + self.radius, self.radius)
        return self.radius - math.sqrt(self.radius**2 - depth**2) if depth > 0 else 0.0


@dataclass(eq=False)
class Segment:
    """A piece of an edge, between spots of two neighbouring layers, with where it begins and ends on them."""

    start: Spot
    end: Spot
    leaves: float = 0.0
    arrives: float = 0.0

    @property
    def weight(self) -> float:
        """How much it should be straight: the inner pieces of long edges most of all."""
        return (1.0, 2.0, 8.0)[(not self.start.real) + (not self.end.real)]

    @property
    def bend(self) -> float:
        """How much further across it ends than it begins."""
        return self.end.at + self.arrives - self.start.at - self.leaves

    def straight_at(self, spot: Spot) -> float:
        """Where this end of it must be so that it is straight."""
        if spot is self.start:
            return self.end.at + self.arrives - self.leaves
        return self.start.at + self.leaves - self.arrives


Layers = list[list[Spot]]
Neighbours = Mapping[Spot, tuple[Spot | None, Spot | None]]


# ---- order within the layers


def ordered(layers: Layers) -> Layers:
    """The layers, each in an order that crosses few segments: the best of the sweeps from several starts."""
    best, fewest = [layer[:] for layer in layers], crossings(layers)
    rng = random.Random(0)
    for start in range(min(STARTS, 2 + MOST_SPOTS // (1 + sum(map(len, layers))))):
        candidate = [layer[::-1] if start == 1 else layer[:] for layer in layers]
        for layer in candidate if start > 1 else ():
            rng.shuffle(layer)
        for sweep in range(SWEEPS):
            if not fewest:
                return best
            _sweep(candidate, backwards=bool(sweep % 2))
            _swap(candidate)
            count = crossings(candidate)
            if count < fewest:
                best, fewest = [layer[:] for layer in candidate], count
    return best


def crossings(layers: Layers) -> int:
    """How many pairs of segments cross."""
    place = _places(layers)
    total = 0
    for layer in layers:
        ends: list[int] = []
        for spot in layer:
            reached = [place[segment.end] for segment in spot.out]
            total += sum(len(ends) - bisect_right(ends, end) for end in reached)
            for end in reached:
                insort(ends, end)
    return total


def _places(layers: Layers) -> dict[Spot, int]:
    return {spot: place for layer in layers for place, spot in enumerate(layer)}


def _sweep(layers: Layers, *, backwards: bool) -> None:
    """Sort every layer by the mean place of what its spots are joined to in the layer before it."""
    place = _places(layers)
    for layer in reversed(layers) if backwards else layers:
        means = {}
        for spot in layer:
            places = [place[neighbour] for neighbour in _neighbours(spot, backwards)]
            means[spot] = sum(places) / len(places) if places else float(place[spot])
        layer.sort(key=lambda spot: means[spot])
        place |= {spot: index for index, spot in enumerate(layer)}


def _neighbours(spot: Spot, after: bool) -> list[Spot]:
    return [segment.end for segment in spot.out] if after else [segment.start for segment in spot.into]


def _swap(layers: Layers) -> None:
    """Exchange neighbours in a layer as long as that removes crossings."""
    place = _places(layers)
    for _ in range(SWAPS):
        better = False
        for layer in layers:
            sides = {
                spot: [[place[neighbour] for neighbour in _neighbours(spot, after)] for after in (False, True)]
                for spot in layer
            }
            for index in range(len(layer) - 1):
                first, second = layer[index], layer[index + 1]
                pairs = [(a, b) for side in (0, 1) for a in sides[first][side] for b in sides[second][side]]
                if sum((a > b) - (a < b) for a, b in pairs) > 0:
                    layer[index : index + 2] = second, first
                    better = True
            place |= {spot: index for index, spot in enumerate(layer)}
        if not better:
            break


def spread_ports(layers: Layers) -> None:
    """Give the segments of every node places of their own on its two sides, in the order of what they lead to."""
    place = _places(layers)
    for spot in place:
        if spot.real:
            out = sorted(spot.out, key=lambda segment: place[segment.end])
            into = sorted(spot.into, key=lambda segment: place[segment.start])
            for index, segment in enumerate(out):
                segment.leaves = (index - (len(out) - 1) / 2) * PORT_STEP
            for index, segment in enumerate(into):
                segment.arrives = (index - (len(into) - 1) / 2) * PORT_STEP


# ---- coordinates across the flow


def place_spots(layers: Layers, blocks: Sequence[Sequence[Spot]]) -> None:
    """Set `at` of every spot; a block (a node, or where an edge passes) is made level where there is room."""
    for layer in layers:
        for spot in layer[:1]:
            spot.at = 0.0
        for before, spot in pairwise(layer):
            spot.at = before.at + _apart(before, spot)
    for turn in range(ROUNDS):
        for layer in reversed(layers) if turn % 2 else layers:
            _settle(layer)
    neighbours = {
        spot: (before, after)
        for layer in layers
        for before, spot, after in zip([None, *layer], layer, [*layer[1:], None], strict=False)
    }
    for _ in range(TOUCHES):
        for block in blocks:
            for part in _level(block, neighbours):
                _straighten(part, neighbours)
    for spot in neighbours:
        if spot.real:
            _slide_ports(spot)


def _apart(first: Spot, second: Spot) -> float:
    return (first.across + second.across) / 2 + first.gap + second.gap


def _settle(layer: Sequence[Spot]) -> None:
    """Move the spots of a layer to where they want to be, in order and apart: pool adjacent violators."""
    pools: list[tuple[float, float, list[Spot]]] = []  # sum of weights times place, sum of weights, spots
    shift, shifts = 0.0, {}
    for index, spot in enumerate(layer):
        shift += _apart(layer[index - 1], spot) if index else 0.0
        shifts[spot] = shift
        leads = [(segment.weight, segment.straight_at(spot)) for segment in spot.segments] or [(0.1, spot.at)]
        weight = sum(pull for pull, _ in leads)
        total_pull = sum(pull * at for pull, at in leads)
        pool = (total_pull - weight * shift, weight, [spot])
        while pools and pools[-1][0] / pools[-1][1] > pool[0] / pool[1]:
            above = pools.pop()
            pool = (above[0] + pool[0], above[1] + pool[1], above[2] + pool[2])
        pools.append(pool)
    for total, weight, spots in pools:
        for spot in spots:
            spot.at = total / weight + shifts[spot]


def _room(spot: Spot, neighbours: Neighbours) -> tuple[float, float]:
    """From where to where a spot can move while its neighbours stay."""
    before, after = neighbours[spot]
    low = before.at + _apart(before, spot) if before else float("-inf")
    high = after.at - _apart(spot, after) if after else float("inf")
    return min(low, spot.at), max(high, spot.at)


def _level(block: Sequence[Spot], neighbours: Neighbours) -> Iterator[list[Spot]]:
    """The block in as few parts as can be made level, each at one height."""
    part: list[Spot] = []
    low, high = float("-inf"), float("inf")
    for spot in [*block, None]:
        room = _room(spot, neighbours) if spot else (float("inf"), float("-inf"))
        if part and max(low, room[0]) > min(high, room[1]):
            mean = sum(member.at for member in part) / len(part)
            for member in part:
                member.at = min(max(mean, low), high)
            yield part
            part, low, high = [], float("-inf"), float("inf")
        if spot:
            part.append(spot)
            low, high = max(low, room[0]), min(high, room[1])


def _straighten(part: Sequence[Spot], neighbours: Neighbours) -> None:
    """Move a level part, a node only a little, if that makes a segment straight without bending others much more."""
    rooms = [_room(spot, neighbours) for spot in part]
    low, high = max(room[0] for room in rooms), min(room[1] for room in rooms)
    position = part[0].at
    inside = set(part)
    leads = [
        (segment.straight_at(spot), segment.weight)
        for spot in part
        for segment in spot.segments
        if not (segment.start in inside and segment.end in inside)
    ]

    def bends(at: float) -> float:
        return sum(weight * (min(abs(at - target), WOBBLE) + 0.1 * abs(at - target)) for target, weight in leads)

    reach = WOBBLE if part[0].real else float("inf")
    choices = [target for target, _ in leads if low <= target <= high and abs(target - position) <= reach]
    best = min([position, *choices], key=lambda at: (round(bends(at), 6), abs(at - position)))
    for spot in part:
        spot.at = best


def _slide_ports(spot: Spot) -> None:
    """Move the ports of a node a little where that makes a segment straight."""
    for outgoing in (True, False):
        sides = spot.out if outgoing else spot.into
        for segment in sides:
            position = segment.leaves if outgoing else segment.arrives
            moved = position + (segment.bend if outgoing else -segment.bend)
            other_ports = [
                sibling.leaves if outgoing else sibling.arrives for sibling in sides if sibling is not segment
            ]
            free = all((position < port) == (moved < port) and abs(moved - port) >= PORT_LEAST for port in other_ports)
            if free and abs(segment.bend) <= SLIDE and abs(moved) <= spot.across / 2 - PORT_LEAST:
                if outgoing:
                    segment.leaves = moved
                else:
                    segment.arrives = moved
