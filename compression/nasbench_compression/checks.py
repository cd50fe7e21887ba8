"""One wording for options that are out of range."""

from __future__ import annotations

import math
from typing import Any

from nasbench_registry import UserError


def check_number(
    option: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    integer: bool = False,
    optional: bool = False,
) -> None:
    """Refuse a value that is no finite number within the bounds.

    Args:
        option: how the user calls it, such as "prune ratio".
        value: what the user wrote.
        at_least: smallest allowed value.
        above: the value must be larger than this.
        at_most: largest allowed value.
        below: the value must be smaller than this.
        integer: only whole numbers, as `int`.
        optional: None is allowed too.

    Raises:
        UserError: the value is something else.
    """
    if value is None and optional:
        return
    kinds = (int,) if integer else (int, float)
    good = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if good:
        good = (
            (at_least is None or value >= at_least)
            and (above is None or value > above)
            and (at_most is None or value <= at_most)
            and (below is None or value < below)
        )
    if good:
        return
    bounds = [
        f"{word} {bound}"
        for word, bound in (("at least", at_least), ("above", above), ("at most", at_most), ("below", below))
        if bound is not None
    ]
    noun = "a whole number" if integer else "a number"
    allowed = " and ".join([f"{noun} {bounds[0]}", *bounds[1:]]) if bounds else noun
    leave_out = ", or leave it out" if optional else ""
    raise UserError(f"{option} is {value!r}; give {allowed}{leave_out}.")
