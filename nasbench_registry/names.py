"""Errors a user can act on: what was written, what is allowed, what was probably meant."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any


class UserError(ValueError):
    """A mistake in what the user asked for. Its text is one sentence that says what to do."""


class WorkFailed(UserError, RuntimeError):
    """What was asked for makes sense and could not be done. Its text is one sentence that says what to do.

    A program ends with 1, where a mistake ends it with 2; in a recipe, the step is rolled back.
    """


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that looks most like `name`, or None if nothing comes close."""
    found = difflib.get_close_matches(str(name).lower(), list(allowed), n=1, cutoff=0.5)
    return found[0] if found else None


def unknown(kind: str, name: str, allowed: Iterable[str], *, where: str = "") -> UserError:
    """The error for a name that does not exist.

    Args:
        kind: what is named, in the singular, such as "controller".
        name: what the user wrote.
        allowed: every name that would have been accepted.
        where: where it was written, such as "in training"; may be empty.
    """
    names = sorted(allowed)
    guess = nearest(name, names)
    hint = f" Did you mean {guess!r}?" if guess else ""
    place = f" {where}" if where else ""
    return UserError(f"unknown {kind} {name!r}{place}; known: {', '.join(names) or 'none'}.{hint}")


def one_of(kind: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`, or raise the UserError that lists them."""
    names = list(allowed)
    if value not in names:
        raise unknown(kind, value, names)
    return value


def check_options(
    make: Callable[..., Any], options: Mapping[str, Any], *, what: str, reserved: Iterable[str] = ()
) -> None:
    """Refuse options that `make` does not take, with the nearest one it does take.

    Args:
        make: a class or function; its keyword parameters are the known options.
        options: what the user wrote.
        what: how the thing is called in the message, such as "controller 'random'".
        reserved: parameters that the program fills in itself and that are no options.
    """
    if dataclasses.is_dataclass(make):
        known = [field.name for field in dataclasses.fields(make) if field.init]
    else:
        parameters = inspect.signature(make).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return
        known = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    known = [name for name in known if name not in set(reserved)]
    for name in options:
        if name not in known:
            raise unknown("option", name, known, where=f"of {what}")
