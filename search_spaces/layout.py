"""Which decisions of a space matter, given the others; and how many architectures that leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasbench_registry import UserError, nearest
from search_spaces.decision import Decision, Inner

if TYPE_CHECKING:
    from search_spaces.core import DecisionSpace

Condition = tuple[int, frozenset[int]]  # a position, and the picks that it must have


@dataclass(frozen=True)
class Part:
    """An inner space: its decisions are those from `start` to `stop`, and matter under `conditions`."""

    name: str
    space: DecisionSpace
    start: int
    stop: int
    conditions: tuple[Condition, ...]


class Layout:
    """Decisions with their conditions resolved to positions and picks.

    Args:
        decisions: Decisions of a space, in order.
        owner: Name of the space, for errors.

    Raises:
        UserError: A name is repeated, or a condition names what is not there or comes later.
    """

    def __init__(self, decisions: Sequence[Decision], owner: str) -> None:
        self.decisions = decisions
        self.owner = owner
        self.sizes = [len(decision.options) for decision in decisions]
        names = [decision.name for decision in decisions]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise UserError(
                f"space {owner!r} has several decisions called {', '.join(repeated)}; give each its own name."
            )
        self._positions = {name: position for position, name in enumerate(names)}
        self.conditions = [
            self._resolve(decision.when, position, decision.name, decision.inner)
            for position, decision in enumerate(decisions)
        ]
        self.conditional = [(position, conditions) for position, conditions in enumerate(self.conditions) if conditions]
        self.parts = self._find_parts()

    def _resolve(self, when: Any, position: int, name: str, inner: Inner | None) -> tuple[Condition, ...]:
        resolved = []
        for earlier, options in when.items():
            at = self._positions.get(earlier)
            where = f"decision {name!r} of space {self.owner!r}"
            if at is None:
                guess = nearest(earlier, self._positions)
                hint = f" Did you mean {guess!r}?" if guess else ""
                raise UserError(f"{where} depends on {earlier!r}, which is no decision of the space.{hint}")
            if at >= position:
                raise UserError(
                    f"{where} depends on {earlier!r}, which does not come before it; put it behind {earlier!r}."
                )
            hidden = self.decisions[at].inner
            if hidden is not None and hidden is not inner:
                raise UserError(
                    f"{where} depends on {earlier!r}, which belongs to the inner space {hidden.name!r}; let it depend "
                    f"on a decision of the space itself."
                )
            known_options = list(self.decisions[at].options)
            for option in options:
                if option not in known_options:
                    raise UserError(
                        f"{where} waits for {earlier}={option!r}, but {earlier!r} can only be {known_options}."
                    )
            resolved.append((at, frozenset(known_options.index(option) for option in options)))
        return tuple(resolved)

    def _find_parts(self) -> tuple[Part, ...]:
        parts: list[Part] = []
        position = 0
        while position < len(self.decisions):
            inner = self.decisions[position].inner
            if inner is None:
                position += 1
                continue
            stop = position + len(inner.space.decisions)
            run = self.decisions[position:stop]
            if stop > len(self.decisions) or any(decision.inner is not inner for decision in run):
                raise UserError(
                    f"the decisions of part {inner.name!r} of space {self.owner!r} do not stand together; put all "
                    f"that inside() returned into the decisions, in its order."
                )
            conditions = self._resolve(inner.when, position, inner.name, inner)
            parts.append(Part(inner.name, inner.space, position, stop, conditions))
            position = stop
        return tuple(parts)

    def active(self, picks: Sequence[int]) -> list[bool]:
        """For each decision, whether it matters."""
        flags = [True] * len(self.decisions)
        for position, conditions in self.conditional:
            for at, allowed in conditions:
                if not flags[at] or picks[at] not in allowed:
                    flags[position] = False
                    break
        return flags

    def holds(self, conditions: Sequence[Condition], flags: Sequence[bool], picks: Sequence[int]) -> bool:
        """Whether all conditions hold, given the flags of `active`."""
        for at, allowed in conditions:  # noqa: SIM110  # asked for millions of times; all() takes four times as long
            if not (flags[at] and picks[at] in allowed):
                return False
        return True

    def active_many(self, picks: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """`active` for picks (n, decisions), as an array of that shape."""
        flags = np.ones(picks.shape, dtype=np.bool_)
        for position, conditions in self.conditional:
            for at, allowed in conditions:
                table = np.zeros(self.sizes[at], dtype=np.bool_)
                table[list(allowed)] = True
                flags[:, position] &= flags[:, at] & table[picks[:, at]]
        return flags

    @property
    def size(self) -> int:
        """Number of architectures that differ in a decision that matters.

        Goes through the decisions once and keeps, for those that later conditions ask for, how many architectures
        there are for each of their picks.
        """
        inner_of = {position: part for part in self.parts for position in range(part.start, part.stop)}
        units: list[tuple[int, int, tuple[Condition, ...], int]] = []  # first position, last + 1, conditions, options
        position = 0
        while position < len(self.decisions):
            part = inner_of.get(position)
            if part is None:
                units.append((position, position + 1, self.conditions[position], self.sizes[position]))
            else:
                units.append((position, part.stop, part.conditions, part.space.size))
            position = units[-1][1]
        last_use: dict[int, int] = {}  # position -> the last unit that asks for it
        for unit, (_, _, conditions, _) in enumerate(units):
            last_use.update({at: unit for at, _ in conditions})
        states: dict[tuple[tuple[int, int], ...], int] = {(): 1}  # ((position, pick), ...) -> architectures
        for unit, (start, _, conditions, options) in enumerate(units):
            following: dict[tuple[tuple[int, int], ...], int] = {}
            for state, count in states.items():
                fixed = dict(state)
                matters = all(fixed.get(at, -1) in allowed for at, allowed in conditions)
                remaining = {at: pick for at, pick in fixed.items() if last_use[at] > unit}
                if matters and start in last_use:
                    for pick in range(options):
                        key = tuple(sorted({**remaining, start: pick}.items()))
                        following[key] = following.get(key, 0) + count
                else:
                    key = tuple(sorted(remaining.items()))
                    following[key] = following.get(key, 0) + count * (options if matters else 1)
            states = following
        return sum(states.values())
