"""How many positions each group loses, and which."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from nasbench_compression.pruning.groups import ChannelGroup

_GLOBAL_FLOOR = 10  # a global ranking leaves each layer at least one channel in this many


def choose(
    groups: Sequence[ChannelGroup],
    scores: Sequence[Tensor],
    ratio: float,
    round_to: int | None,
    *,
    global_ranking: bool,
    comparable: bool = False,
) -> list[list[int]]:
    """Positions to remove from each group, least important first; an empty list where rounding leaves none.

    Each group keeps the multiple of `round_to` just below or just above what `ratio`, or the global ranking, would
    leave of it: the nearer one, except where that would miss the share of all channels that is to go. Then layers move
    by a step, those first that move least relative to their size.

    Args:
        groups: all that take part.
        scores: importance of the positions of each, (size,).
        ratio: share of all channels that is to go.
        round_to: what is left of a layer is a multiple of this; attention heads are whole anyway.
        global_ranking: let all groups compete, instead of removing the same share from each.
        comparable: whether scores of different groups may be compared as they are; divided by their mean, if not.
    """
    if global_ranking:
        exact = _kept_globally(groups, scores, ratio, comparable=comparable)
    else:
        exact = [group.size * (1 - ratio) for group in groups]
    floors = [_floor(group) if global_ranking else 1 for group in groups]
    goal = round((1 - ratio) * sum(group.size * group.share for group in groups))
    kept = _rounded(groups, exact, floors, goal, round_to)
    return [group.least(score, group.size - count) for group, score, count in zip(groups, scores, kept, strict=True)]


def _rounded(
    groups: Sequence[ChannelGroup], exact: Sequence[float], floors: Sequence[int], goal: int, round_to: int | None
) -> list[int]:
    """Positions that each group keeps: the nearest multiple, and then those beside it that cost least for the goal."""
    kept = [_nearest(group, count, round_to) for group, count in zip(groups, exact, strict=True)]
    missing = goal - sum(count * group.share for count, group in zip(kept, groups, strict=True))
    while missing:
        moves = []
        for index, group in enumerate(groups):
            for removed in beside(group, group.size - kept[index], round_to):
                count = group.size - removed
                change = (count - kept[index]) * group.share
                if abs(missing - change) < abs(missing) and (count >= floors[index] or change > 0):
                    moves.append((abs(count - exact[index]) / group.size, index, count, change))
        if not moves:
            break
        _, index, kept[index], change = min(moves)
        missing -= change
    return kept


def beside(group: ChannelGroup, removed: int, round_to: int | None) -> list[int]:
    """How many positions may go in place of `removed`: the next smaller and the next larger number."""
    unit, kept = _unit(group, round_to), group.size - removed
    larger = min(group.size, (kept // unit + 1) * unit)
    smaller = (math.ceil(kept / unit) - 1) * unit
    return [group.size - count for count in (larger, smaller) if 0 < count != kept]


def _nearest(group: ChannelGroup, kept: float, round_to: int | None) -> int:
    """The allowed number of positions that is nearest to `kept`."""
    unit = _unit(group, round_to)
    low = min(group.size, max(1, math.floor(kept / unit + 1e-9)) * unit)
    high = min(group.size, low + unit)
    return low if kept - low < high - kept else high


def _unit(group: ChannelGroup, round_to: int | None) -> int:
    """What is left of a group is a multiple of so many positions."""
    if round_to is None or group.width > 1:
        return 1
    # The whole layer is rounded, and blocks stay equal: both divide what is kept.
    return math.lcm(round_to, group.blocks) // group.blocks


def _floor(group: ChannelGroup) -> int:
    return max(1, math.ceil(group.size / _GLOBAL_FLOOR))


def _kept_globally(
    groups: Sequence[ChannelGroup], scores: Sequence[Tensor], ratio: float, *, comparable: bool
) -> list[float]:
    """Number of positions that each group keeps if all compete."""
    entries = []
    for index, score in enumerate(scores):
        relative = score if comparable else score / score.mean().clamp(min=1e-12)
        entries += [(value, index) for value in relative.tolist()]
    kept = [group.size for group in groups]
    floors = [_floor(group) for group in groups]
    left = ratio * sum(group.size * group.share for group in groups)
    for _, index in sorted(entries):
        share = groups[index].share
        if left < share / 2:
            break
        if kept[index] > floors[index]:
            kept[index] -= 1
            left -= share
    return [float(count) for count in kept]
