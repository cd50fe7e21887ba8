"""All checks of an installation and a machine."""

from __future__ import annotations

from collections.abc import Iterator

from nasbench.doctor import interpreter, machine, packages, runtimes
from nasbench.doctor.finding import Finding


def examine(*, imports: bool = True) -> Iterator[Finding]:
    """Look at the interpreter, the packages, the runtimes and the machine, one after the other.

    Args:
        imports: Whether packages are imported, in a process of their own, which takes seconds.
    """
    yield from interpreter.look()
    yield from packages.look(imports=imports)
    yield from runtimes.look()
    yield from machine.look()
