"""Modules that a step leaves as they are, by their names."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from torch import nn

from nasbench_registry import UserError, nearest


def check_exclude(step: str, value: object) -> tuple[str, ...]:
    """The option `exclude` of a step as a tuple; UserError if it is no list of names."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(name, str) for name in value):
        raise UserError(
            f"{step} exclude is {value!r}; give a list of names of modules, such as [classifier, 'blocks.*']."
        )
    return tuple(value)


def excluded(step: str, model: nn.Module, patterns: Sequence[str]) -> dict[str, str]:
    """The modules that are left as they are, each with the first pattern that covers it.

    Args:
        step: Name of the step whose option it is.
        model: Any network.
        patterns: Names of modules, or patterns of names as in `fnmatch`; modules inside of them are covered, too.

    Raises:
        UserError: A pattern fits no module.
    """
    modules = dict(model.named_modules(remove_duplicate=False))  # one module may have several names
    names = list(modules)
    by_module: dict[nn.Module, str] = {}
    for pattern in patterns:
        hits = fnmatch.filter(names, pattern)
        if not hits:
            guess = nearest(pattern, [name for name in names if name])
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise UserError(
                f"{pattern!r} in {step} exclude fits no module of the network; give names as named_modules() has them, "
                f"or patterns such as 'blocks.*'.{hint}"
            )
        for name, module in modules.items():
            if any(hit in ("", name) or name.startswith(f"{hit}.") for hit in hits):
                by_module.setdefault(module, pattern)
    return {name: by_module[module] for name, module in modules.items() if module in by_module}
