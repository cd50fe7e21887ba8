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
        groups: Groups that take part.
        scores: Importance of the positions of each group, (size,) each.
        ratio: Share of all channels to be removed.
        round_to: Number of which the channels that are left in a layer are a multiple; attention heads are whole
            anyway.
        global_ranking: Whether all groups compete, instead of losing the same share each.
        comparable: Whether scores of different groups may be compared as they are; they are divided by their mean, if
            not.
    """
    if global_ranking:
        exact = _global_counts(groups, scores, ratio, comparable=comparable)
    else:
        exact = [group.size * (1 - ratio) for group in groups]
    floors = [_floor(group) if global_ranking else 1 for group in groups]
    goal = round((1 - ratio) * sum(group.size * group.share for group in groups))
    counts = _rounded(groups, exact, floors, goal, round_to)
    return [group.least(score, group.size - count) for group, score, count in zip(groups, scores, counts, strict=True)]


def _rounded(
    groups: Sequence[ChannelGroup], exact: Sequence[float], floors: Sequence[int], goal: int, round_to: int | None
) -> list[int]:
    """Positions that each group keeps: the nearest multiple, and then those beside it that cost least for the goal."""
    counts = [_nearest(group, count, round_to) for group, count in zip(groups, exact, strict=True)]
    missing = goal - sum(count * group.share for count, group in zip(counts, groups, strict=True))
    while missing:
        moves = []
        for index, group in enumerate(groups):
            for removed in beside(group, group.size - counts[index], round_to):
                count = group.size - removed
                change = (count - counts[index]) * group.share
                if abs(missing - change) < abs(missing) and (count >= floors[index] or change > 0):
                    moves.append((abs(count - exact[index]) / group.size, index, count, change))
        if not moves:
            break
        _, index, counts[index], change = min(moves)
        missing -= change
    return counts


def beside(group: ChannelGroup, removed: int, round_to: int | None) -> list[int]:
    """How many positions may go in place of `removed`: the next smaller and the next larger number."""
    unit, left = _unit(group, round_to), group.size - removed
    larger = min(group.size, (left // unit + 1) * unit)
    smaller = (math.ceil(left / unit) - 1) * unit
    return [group.size - count for count in (larger, smaller) if 0 < count != left]


def _nearest(group: ChannelGroup, exact: float, round_to: int | None) -> int:
    """The allowed number of positions that is nearest to `exact`."""
    unit = _unit(group, round_to)
    low = min(group.size, max(1, math.floor(exact / unit + 1e-9)) * unit)
    high = min(group.size, low + unit)
    return low if exact - low < high - exact else high


def _unit(group: ChannelGroup, round_to: int | None) -> int:
    """What is left of a group is a multiple of so many positions."""
    if round_to is None or group.width > 1:
        return 1
    # The whole layer is rounded, and blocks stay equal: both divide what is kept.
    return math.lcm(round_to, group.blocks) // group.blocks


def _floor(group: ChannelGroup) -> int:
    return max(1, math.ceil(group.size / _GLOBAL_FLOOR))


def _global_counts(
    groups: Sequence[ChannelGroup], scores: Sequence[Tensor], ratio: float, *, comparable: bool
) -> list[float]:
    """Number of positions that each group keeps if all compete."""
    entries = []
    for index, score in enumerate(scores):
        relative = score if comparable else score / score.mean().clamp(min=1e-12)
        entries += [(value, index) for value in relative.tolist()]
    counts = [group.size for group in groups]
    floors = [_floor(group) for group in groups]
    left = ratio * sum(group.size * group.share for group in groups)
    for _, index in sorted(entries):
        share = groups[index].share
        if left < share / 2:
            break
        if counts[index] > floors[index]:
            counts[index] -= 1
            left -= share
    return [float(count) for count in counts]
