"""A table of names: an explicit dict, an entry-point group, and ``module:Class``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from nasbench_registry.names import UserError, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """Resolves the name of one kind of thing to its class.

    Args:
        kind: what is named, in the singular ("controller").
        base: the class that everything in the registry derives from.
        entries: the names this project brings, each with its class.
        group: the entry-point group through which installed packages add names.
    """

    def __init__(self, kind: str, base: type[T], entries: Mapping[str, type[T]], *, group: str) -> None:
        self.kind = kind
        self.base = base
        self.entries = dict(entries)
        self.group = group

    def _plugins(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def names(self) -> list[str]:
        """Every known name, sorted: ours and those of installed packages."""
        return sorted({*self.entries, *self._plugins()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def find(self, name: str) -> type[T]:
        """The class behind `name`.

        Raises:
            UserError: the name is unknown, or ``module:Class`` cannot be imported or is something else.
        """
        if name in self.entries:
            return self.entries[name]
        if ":" in name:
            return self._checked(name, _import(name, self.kind))
        plugins = self._plugins()
        if name in plugins:
            return self._checked(name, plugins[name].load())
        raise unknown(self.kind, name, [*self.names(), "module:Class"])

    def _checked(self, name: str, found: object) -> type[T]:
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise UserError(
                f"{self.kind} {name!r} is {found!r}, which is not a subclass of "
                f"{self.base.__module__}.{self.base.__qualname__}; derive the class from it."
            )
        return found


def _import(name: str, kind: str) -> object:
    """Import ``module:Class``. Only a missing module or class is the user's mistake here; their own bugs surface."""
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise UserError(
            f"{kind} {name!r}: there is no module {module_name!r} beside the experiment file, in the working folder "
            f"or on the Python path; check the spelling or set PYTHONPATH."
        ) from None
    if not hasattr(module, attribute):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise unknown("class", attribute, classes, where=f"in module {module_name!r}")
    return getattr(module, attribute)
