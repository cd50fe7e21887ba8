"""Recipes as people read them: a step, its options, and what each was chosen from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CHOICE = "choice"


def recipe_steps(entries: Sequence[Any]) -> list[str]:
    """A line for each step: ``prune: ratio 0.25, importance l2``; a choice lists what it chooses from."""
    return [_step(entry) for entry in entries]


def _step(entry: Any) -> str:
    if entry is None:
        return "no step"
    if isinstance(entry, str):
        return entry
    name, options = next(iter(entry.items()))
    if name == CHOICE:
        return "either " + ", or ".join(f"({_step(alternative)})" for alternative in options)
    described = ", ".join(f"{key} {value}" for key, value in _options(options or {}))
    return f"{name}: {described}" if described else str(name)


def _options(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Options that are set; groups of options are listed one by one."""
    for key, value in options.items():
        if isinstance(value, Mapping) and set(value) == {CHOICE}:
            yield str(key), " | ".join(_value(alternative) for alternative in value[CHOICE])
        elif isinstance(value, Mapping):
            yield from _options(value)
        elif value is not None:
            yield str(key), _value(value)


def _value(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
