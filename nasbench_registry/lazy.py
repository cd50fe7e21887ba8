"""Names whose things are imported when they are asked for: of a package's public face, and of a registry."""

from __future__ import annotations

import ast
import contextlib
import functools
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
        package: Name `__name__` of the package.
        file: Path `__file__` of the package.
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
        places: Place of each thing, by name.
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

    def literals(self, name: str, attributes: tuple[str, ...]) -> dict[str, Any]:
        """Attributes of a class that are literals in its source or in that of a base; else the class is imported.

        Args:
            name: Name of the class.
            attributes: Names of the attributes.
        """
        literals = class_literals(self.places[name])
        if not all(attribute in literals for attribute in attributes):
            literals = {attribute: getattr(self[name], attribute) for attribute in attributes}
        return {attribute: literals[attribute] for attribute in attributes}

    def docstring(self, name: str) -> str:
        """The docstring of the module in which a thing stands, which is not imported; empty if it has none."""
        return (ast.get_docstring(module_source(self.places[name].partition(":")[0])) or "").strip()


@functools.cache
def module_source(module: str) -> ast.Module:
    """The source of a module, which is not imported; empty if it is not written in Python."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ast.Module([], [])
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def class_literals(place: str) -> dict[str, Any]:
    """The attributes of ``module:Class`` and of its bases that are literals in their source; imports none of them."""
    module, _, name = place.partition(":")
    tree = module_source(module)
    homes = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }
    literals: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for base in reversed(node.bases):
                if isinstance(base, ast.Name):
                    literals |= class_literals(homes.get(base.id, f"{module}:{base.id}"))
            for line in node.body:
                if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
                    target = line.targets[0] if isinstance(line, ast.Assign) else line.target
                    if isinstance(target, ast.Name):
                        literals.pop(target.id, None)
                        with contextlib.suppress(ValueError):  # it is computed
                            literals[target.id] = ast.literal_eval(line.value)
    return literals


def load(place: str) -> Any:
    """The thing at ``module:attribute``."""
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
