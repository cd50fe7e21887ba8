"""Files and texts that a user writes, read as YAML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nasbench_registry.names import UserError


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path that a user writes, in which ~ is the home folder also where no shell says so."""
    return Path(os.path.expanduser(path))  # of an unknown user as it is, where Path.expanduser raises


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; UserError if there is none or it cannot be read."""
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a text file: {error}.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: it looks like a date or a number and is none
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(
            f"{path} is not YAML{place}: {getattr(error, 'problem', None) or ' '.join(str(error).split())}."
        ) from None


def key_value(text: str, kind: str, example: str) -> tuple[str, Any]:
    """The key and the value, which is YAML, of a ``key=value`` text.

    Raises:
        UserError: It is none; the message calls it by its `kind` and shows the example.
    """
    import yaml

    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UserError(f"{kind} {text!r} is not key=value; write for example {example}.")
    try:
        return key, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        raise UserError(f"{kind} {text!r}: {value!r} is not a YAML value.") from None
