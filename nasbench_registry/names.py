"""Errors a user can act on: what was written, what is allowed, what was probably meant."""

from __future__ import annotations

import difflib
import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """A mistake in what the user asked for. Its text is one sentence that says what to do."""


class WorkFailed(UserError, RuntimeError):
    """Sensible work that could not be done. Its text is one sentence that says what to do.

    A program ends with 1, where a mistake ends it with 2; in a recipe, the step is rolled back.
    """


def raised(error: BaseException) -> str:
    """The exception of a user's code, and its line."""
    words = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:  # a SyntaxError names its line itself
        return words
    return f"{words}, in line {frames[-1].lineno} of {Path(frames[-1].filename).name}"


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that looks most like `name`, or None if nothing comes close."""
    matches = difflib.get_close_matches(str(name).lower(), list(allowed), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(kind: str, name: str, allowed: Iterable[str], *, where: str = "") -> UserError:
    """The error for a name that does not exist.

    Args:
        kind: Kind of thing that is named, in the singular, such as "controller".
        name: Name that the user wrote.
        allowed: Every name that would have been accepted.
        where: Where the name was written, such as "in training"; may be empty.
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
    """Refuse options that `make` does not take, with the nearest one it does take, and ask for those that it needs.

    Args:
        make: Class or function; its keyword parameters are the known options, and it needs those without default.
        options: Options that the user wrote.
        what: Name of the thing in the message, such as "controller 'random'".
        reserved: Parameters that the program fills in itself and that are no options.
    """
    parameters = inspect.signature(make).parameters.values()
    named = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    is_needed = {p.name: p.default is p.empty for p in named if p.name not in set(reserved)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in options:
        if name not in is_needed and not takes_any:
            raise unknown("option", name, is_needed, where=f"of {what}")
    for name, needed in is_needed.items():
        if needed and name not in options:
            raise UserError(f"{what} needs the option {name!r}; write {name}: followed by its value.")
