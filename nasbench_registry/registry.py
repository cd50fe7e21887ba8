"""A table of names: an explicit dict, an entry-point group, and ``module:attribute``."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import ClassVar, Generic, TypeVar

from nasbench_registry.lazy import Entries, load
from nasbench_registry.names import UserError, raised, unknown

T = TypeVar("T")

TEXTS = ("summary", "source")
"""Attributes by which a class describes itself in a listing."""


def check_complete(kind: str, name: str, value: type, base: type) -> None:
    """Raise UserError if a class leaves methods of its base class undefined."""
    missing = sorted(getattr(value, "__abstractmethods__", ()))
    if missing:
        raise UserError(
            f"{kind} {name!r} does not define {', '.join(missing)}; see {base.__module__}.{base.__qualname__}."
        )


class Names(ABC, Generic[T]):
    """Resolves the name of one kind of thing to the thing.

    Subclasses say what may stand behind a name that is not in `entries`.

    Args:
        kind: Kind of thing that is named, in the singular ("controller").
        entries: Names that this project brings, each with its thing.
        group: Entry-point group through which installed packages add names.
    """

    attribute: ClassVar[str]
    """The thing behind the colon of ``module:attribute``, in one word."""

    def __init__(self, kind: str, entries: Mapping[str, T], *, group: str) -> None:
        self.kind = kind
        self.entries = entries
        self.group = group

    @abstractmethod
    def _checked(self, name: str, value: object) -> T:
        """The value, found outside of `entries`, if it is of this kind; else a UserError."""

    @abstractmethod
    def _offers(self, value: object) -> bool:
        """Whether something in a user's module is worth naming where another name does not exist."""

    def _plugins(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def names(self) -> list[str]:
        """Every known name, sorted: ours and those of installed packages."""
        return sorted({*self.entries, *self._plugins()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def find(self, name: str) -> T:
        """The thing of this name.

        Raises:
            UserError: The name is unknown, or ``module:attribute`` cannot be imported or is something else.
        """
        if name in self.entries:
            return self.entries[name]
        if ":" in name:
            return self._checked(name, self._import(name))
        plugins = self._plugins()
        if name in plugins:
            return self._checked(name, plugins[name].load())
        raise unknown(self.kind, name, [*self.names(), f"module:{self.attribute}"])

    def _import(self, name: str) -> object:
        """Import ``module:attribute``; UserError if there is no such thing, or if the module raises something."""
        module_name, _, attribute = name.partition(":")
        if not module_name or module_name.startswith("."):
            raise UserError(
                f"{self.kind} {name!r} names no module before the colon; write module:{self.attribute}, such as "
                f"mine:{attribute or self.attribute}."
            )
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None:
                raise
            if not (module_name + ".").startswith(error.name + "."):
                raise UserError(
                    f"{self.kind} {name!r}: importing {module_name!r} needs the module {error.name!r}, which is not "
                    f"installed here; install it."
                ) from error
            raise UserError(
                f"{self.kind} {name!r}: there is no module {module_name!r} beside the experiment file, in the working "
                f"folder or on the Python path; check the spelling or set PYTHONPATH."
            ) from None
        except UserError:
            raise
        except Exception as error:  # whatever the user's module does when it is imported
            raise UserError(
                f"{self.kind} {name!r}: importing {module_name!r} fails ({raised(error)}); mend that module."
            ) from error
        if not hasattr(module, attribute):
            offered = [key for key, value in vars(module).items() if self._offers(value)]
            raise unknown(self.attribute.lower(), attribute, offered, where=f"in module {module_name!r}")
        return getattr(module, attribute)


class Registry(Names[type[T]]):
    """Resolves the name of one kind of thing to its class.

    Args:
        kind: Kind of thing that is named, in the singular ("controller").
        base: Class that everything in the registry derives from, or its place, ``module:Class``.
        entries: Names that this project brings, each with its class.
        group: Entry-point group through which installed packages add names.
    """

    attribute = "Class"

    def __init__(self, kind: str, base: type[T] | str, entries: Mapping[str, type[T]], *, group: str) -> None:
        super().__init__(kind, entries, group=group)
        self._base = base

    @property
    def base(self) -> type[T]:
        """The class that everything in the registry derives from."""
        return load(self._base) if isinstance(self._base, str) else self._base

    def texts(self, name: str) -> dict[str, str]:
        """The attributes `summary` and `source` of the class called `name`, which is imported only if it has to be."""
        if isinstance(self.entries, Entries) and name in self.entries:
            return self.entries.literals(name, TEXTS)
        return {attribute: getattr(self.find(name), attribute, "") for attribute in TEXTS}

    def _checked(self, name: str, value: object) -> type[T]:
        if not (isinstance(value, type) and issubclass(value, self.base)):
            raise UserError(
                f"{self.kind} {name!r} is {value!r}, which is not a subclass of "
                f"{self.base.__module__}.{self.base.__qualname__}; derive the class from it."
            )
        check_complete(self.kind, name, value, self.base)
        return value

    def _offers(self, value: object) -> bool:
        return isinstance(value, type)
