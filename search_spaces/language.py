"""Spaces made of spaces: a part inside another one, stages that repeat, and products.

class Backbone(SearchSpace):
    name = "backbone"
    decisions = (
        Decision("head", ("linear", "mlp")),
        Decision("hidden", (32, 64), when={"head": "mlp"}),
        *repeated("stage", (2, 3, 4), (Decision("kernel", (3, 5)), Decision("width", (16, 32)))),
        *inside("cell", NASBench201()),
    )

    def build(self, arch, task):
        choice = self.choices(arch)              # {"head": "linear", "stage_count": 2, "stage0.kernel": 3, ...}
        stages = self.parts(arch, "stage")       # [{"kernel": 3, "width": 16}, {"kernel": 5, "width": 32}]
        cell = self.inner(arch, "cell")          # an Architecture of nasbench201
        ...
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from nasbench_registry import UserError
from search_spaces.core import Decision, DecisionSpace
from search_spaces.decision import Inner


def inside(
    name: str, what: DecisionSpace | Sequence[Decision], *, when: Mapping[str, Any] | None = None
) -> tuple[Decision, ...]:
    """The decisions of `what` as a part of another space, each called ``name.decision``.

    A space keeps its rules inside another one: only valid architectures of it are sampled, and they are made
    canonical. (A `mutate`, `crossover` or `one_hot` of its own is not used, its decisions are.)

    Args:
        name: Name of the part.
        what: Space, or plain decisions.
        when: Condition under which the part matters; see `Decision`.
    """
    if not name or "." in name:
        raise UserError(f"the part of a space cannot be called {name!r}; give it a name without a dot.")
    outer = Decision(name, (None,), when or {}).when
    decisions = what.decisions if isinstance(what, DecisionSpace) else tuple(what)
    inner = Inner(name, what, outer) if isinstance(what, DecisionSpace) else None
    part_decisions = []
    for decision in decisions:
        conditions = {**outer, **{f"{name}.{other}": options for other, options in decision.when.items()}}
        part = inner or (decision.inner and _moved(decision.inner, name, outer))
        part_decisions.append(
            dataclasses.replace(decision, name=f"{name}.{decision.name}", when=conditions, inner=part)
        )
    return tuple(_shared(part_decisions))


def _moved(inner: Inner, name: str, outer: Mapping[str, Any]) -> Inner:
    when = {**outer, **{f"{name}.{other}": options for other, options in inner.when.items()}}
    return Inner(f"{name}.{inner.name}", inner.space, when)


def _shared(decisions: Sequence[Decision]) -> list[Decision]:
    """Decisions of one part carry one `Inner`, so that a part is recognised by identity."""
    inner_by_name: dict[str, Inner] = {}
    return [
        decision
        if decision.inner is None
        else dataclasses.replace(decision, inner=inner_by_name.setdefault(decision.inner.name, decision.inner))
        for decision in decisions
    ]


def repeated(
    name: str,
    count: int | Sequence[int],
    what: DecisionSpace | Sequence[Decision],
    *,
    when: Mapping[str, Any] | None = None,
) -> tuple[Decision, ...]:
    """Several parts of one kind, each with decisions of its own, called ``name0.decision``, ``name1.decision``, ...

    Args:
        name: Name of the parts, without their number.
        count: Number of parts; several numbers make that a decision, called ``name_count``, and the parts beyond it do
            not matter.
        what: Space, or plain decisions, of each part.
        when: Condition under which all of this matters; see `Decision`.
    """
    counts = (count,) if isinstance(count, int) else tuple(count)
    if not counts or min(counts) < 0 or max(counts) < 1:
        raise UserError(f"part {name!r} cannot be repeated {count!r} times; give a number from 1, or several.")
    decisions: list[Decision] = []
    if len(counts) > 1:
        decisions.append(Decision(f"{name}_count", counts, when or {}))
    for index in range(max(counts)):
        enough = tuple(number for number in counts if number > index)
        needed = {f"{name}_count": enough} if len(enough) < len(counts) else dict(when or {})
        decisions += inside(f"{name}{index}", what, when=needed)
    return tuple(decisions)
