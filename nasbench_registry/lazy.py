"""Names whose things are imported when they are asked for: of a package's public face, and of a registry."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def attach_stub(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package whose stub beside it says where its public names come from.

    The stub ``__init__.pyi`` has lines ``from package.module import Name as Name``; type checkers read it, too.

    Args:
        package: its `__name__`.
        file: its `__file__`.
    """
    tree = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
        if alias.asname == alias.name
    }

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        # A module of the package may have the name of what it defines, and would stand in its place once imported.
        setattr(importlib.import_module(package), name, value)
        return value

    return find, lambda: sorted(homes), sorted(homes)


class Entries(Mapping[str, T]):
    """The names of a registry, each with the place of its thing, ``module:attribute``; reading a name imports it.

    Args:
        places: by name.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self.places = dict(places)

    def __getitem__(self, name: str) -> T:
        return load(self.places[name])  # type: ignore[no-any-return]  # what stands there is tested by the contracts

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def texts(self, name: str, attributes: tuple[str, ...]) -> dict[str, str]:
        """Attributes of a class that are literal strings in its source; the class is imported only if one is not.

        Args:
            name: of the class.
            attributes: their names.
        """
        module, _, attribute = self.places[name].partition(":")
        spec = importlib.util.find_spec(module)
        literals: dict[str, str] = {}
        if spec is not None and spec.origin is not None:
            for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and node.name == attribute:
                    literals = dict(_literals(node))
        if not all(attribute in literals for attribute in attributes):
            literals = {attribute: getattr(self[name], attribute) for attribute in attributes}
        return {attribute: literals[attribute] for attribute in attributes}


def load(place: str) -> Any:
    """What stands at ``module:attribute``."""
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _literals(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for line in node.body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and isinstance(line.value, ast.Constant):
            target = line.targets[0] if isinstance(line, ast.Assign) else line.target
            if isinstance(target, ast.Name) and isinstance(line.value.value, str):
                yield target.id, line.value.value
