"""Digests of a user's own code, by which a model, a run and the shared cache notice that it was edited.

Weights fit any code that builds layers of the same names and shapes, so a network whose ReLU became Tanh loads without
a word, and computes something else. `code_digests` follows the imports of a space, or of whatever builds and scores
networks, without importing anything:

    my_space.py         "from blocks import Block"     {"blocks": "a97e...", "blocks.conv": "52d1...", "my_space": ...}
    blocks/__init__.py  "from .conv import Block"

Modules of the standard library, of site-packages and of this project are left out: their versions say what they are.
"""

from __future__ import annotations

import ast
import dataclasses
import dis
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
import sysconfig
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasbench.storage.accept import ACCEPT
from nasbench_registry import UserError

OURS = frozenset({"search_spaces", "controllers", "nasbench", "nasbench_compression", "nasbench_registry"})
NO_USERS = OURS | {"builtins", "torch"}
"""Packages that are no user's, wherever they lie: torch may be a checkout, and its version says what it is."""
INSTALLED = frozenset({"site-packages", "dist-packages"})
NAMED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""``module:attribute``, as an option names a block or a step."""
KEPT_SPECIAL = frozenset({"__slots__", "__dataclass_fields__"})
"""Attributes of a class between double underscores that are no code and say what it does.

Of the others, some tell where a class stands, and some are put there while a program runs: copying an object adds
``__slotnames__`` to its class.
"""
CODE = (types.FunctionType, staticmethod, classmethod, property)

Digests = Mapping[str, str]
Spec = importlib.machinery.ModuleSpec
Ids = tuple[int, ...]


def code_digests(*things: object) -> dict[str, str]:
    """A digest of each module of a user's own that the code of some things reaches by import, by the module's name.

    Comments, layout and docstrings do not count. What a notebook or a script defines is found under ``__main__:Name``,
    by its bytecode and that of what it calls; so is what lies in no file.

    Args:
        things: Classes, functions, objects, or containers of such; the attributes of an object count, and texts
            ``module:attribute`` in them.
    """
    importlib.invalidate_caches()
    walk = _Walk()
    for thing in things:
        walk.add(thing)
    return dict(sorted(walk.digests.items()))


def changes(before: Digests, now: Digests) -> list[str]:
    """The differences between two results of `code_digests`, one text a module."""
    texts = []
    for name in sorted({*before, *now}):
        if name not in now:
            texts.append(f"{name} is not used any more")
        elif name not in before:
            texts.append(f"{_with_file(name)} is new")
        elif before[name] != now[name]:
            texts.append(f"{_with_file(name)} was edited")
    return texts


def moved_versions(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The differences between two results of `versions`, in words."""
    return [f"{name} was {before.get(name)} and is {now[name]}" for name in now if before.get(name) != now[name]]


def accepts_changed_code(accept: bool | None = None) -> bool:
    """The given value; without one, whether this process or the one that started it accepts changed code."""
    return os.environ.get(ACCEPT) == "1" if accept is None else accept


def changed_code(what: str, changed: list[str], how: str = "put it back") -> UserError:
    """The refusal of what was made with other code.

    Args:
        what: What was made with other code.
        changed: Changes since then, as `changes` gives them.
        how: What the user may do else to go on.
    """
    return UserError(
        f"{what} was made with other code: {'; '.join(changed)}; {how}, or accept it with --accept-changed-code "
        f"(accept_changed_code=True in Python), and stored numbers may not hold any more."
    )


def versions(*packages: str, used_by: object = None) -> dict[str, str]:
    """The versions of torch and of this project, and of the installed package that a thing comes from.

    Args:
        packages: Packages of this project, whose files count as well, for its version stays for many commits.
        used_by: Classes, functions or objects, or a tuple of such.
    """
    installed = {"torch": importlib.metadata.version("torch")}
    for thing in used_by if isinstance(used_by, tuple) else (used_by,):
        package = _module_of(thing).partition(".")[0]
        spec = None if package in NO_USERS else _spec(package)
        if spec is not None and any(INSTALLED & set(place.parts) for place in _places(spec)):
            names = importlib.metadata.packages_distributions().get(package, [])
            installed |= {name: importlib.metadata.version(name) for name in names}
    try:
        project_version = importlib.metadata.version("nasbench-framework")
    except importlib.metadata.PackageNotFoundError:  # it runs from a folder in which it was not installed
        project_version = "not installed"
    return {**installed, "nasbench": f"{project_version}+{_source_digest(*packages)[:16]}"}


@functools.cache
def _source_digest(*packages: str) -> str:
    digest = hashlib.sha256()
    for package in packages:
        spec = _spec(package)
        assert spec is not None, "a package of this project is there"
        for folder in spec.submodule_search_locations or ():
            for file in sorted(Path(folder).rglob("*.py")):
                name = file.relative_to(folder).as_posix()
                digest.update(f"{package} {name} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()


class _Walk:
    """A walk over things and over the imports of their modules."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self._things: dict[int, object] = {}  # kept alive, so that no identity is given twice
        self._modules: set[str] = set()
        self._counted: dict[str, bool] = {}  # whether modules of a package are a user's own

    def add(self, thing: Any) -> None:
        """Take up the code of a thing."""
        if isinstance(thing, str):
            if NAMED.fullmatch(thing):
                self._module(thing.partition(":")[0])
            return
        if thing is None or isinstance(thing, bool | int | float | complex | bytes) or id(thing) in self._things:
            return
        self._things[id(thing)] = thing
        if isinstance(thing, type):
            for kind in thing.__mro__:
                self._definition(kind)
        elif isinstance(thing, types.FunctionType):
            self._definition(thing)
            self.add(inspect.unwrap(thing))
        elif isinstance(thing, types.MethodType):
            self.add((thing.__func__, thing.__self__))
        elif isinstance(thing, functools.partial):
            self.add((thing.func, thing.args, thing.keywords))
        elif isinstance(thing, Mapping):
            self.add((list(thing.keys()), list(thing.values())))
        elif isinstance(thing, list | tuple | set | frozenset):
            for item in thing:
                self.add(item)
        else:
            self.add(type(thing))
            package = _module_of(thing).partition(".")[0]
            if package in OURS or package == "__main__" or self._counts(package):
                self.add(list(getattr(thing, "__dict__", {}).values()))

    def _counts(self, module: str) -> bool:
        """Whether a module is a user's own."""
        package = module.partition(".")[0]
        if package not in self._counted:
            spec = None if package in NO_USERS else _spec(package)
            self._counted[package] = spec is not None and _is_users(spec)
        return self._counted[package]

    def _definition(self, thing: Any) -> None:
        """A class or a function."""
        module = _module_of(thing)
        if module.partition(".")[0] in NO_USERS:
            return
        if module != "__main__" and _spec(module) is not None:
            self._module(module)
            return
        name = f"{module}:{thing.__qualname__}"
        if name not in self.digests:
            self.digests[name] = _sha256(repr(self._by_value(thing, (), {})))

    def _module(self, name: str) -> None:
        """A module, the packages around it, and what they import."""
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name in self._modules or not self._counts(name):
                continue
            self._modules.add(name)
            spec = _spec(name)
            if spec is None:
                continue
            if "." in name:
                waiting.append(name.rpartition(".")[0])
            if spec.origin is None or not Path(spec.origin).is_file():
                continue  # a namespace package
            file = Path(spec.origin)
            self.digests[name], imports = _read_code(file.suffix, file.read_bytes())
            package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
            for level, module in imports:
                around = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                waiting.append(".".join([*around, *filter(None, [module])]))

    def _by_value(self, value: Any, around: Ids, numbers: dict[int, int]) -> Any:
        """The representation of a value in a digest; the same in every process.

        Args:
            value: Value to represent.
            around: Identities of what holds it.
            numbers: Numbers of the classes and functions so far, by identity.
        """
        if value is None or value is ... or isinstance(value, bool | int | float | complex | str | bytes):
            return repr(value)
        if id(value) in around:
            return "itself"
        if id(value) in numbers:
            return "again", numbers[id(value)]

        def inside(part: Any) -> Any:
            return self._by_value(part, (*around, id(value)), numbers)

        if isinstance(value, types.CodeType):
            constants = [inside(constant) for constant in value.co_consts]
            return "code", value.co_code.hex(), constants, value.co_names, value.co_varnames, value.co_freevars
        if isinstance(value, tuple | list):
            return type(value).__name__, [inside(item) for item in value]
        if isinstance(value, set | frozenset):
            return "set", sorted(repr(inside(item)) for item in value)
        if isinstance(value, Mapping):
            return "dict", sorted(repr((key, inside(item))) for key, item in value.items())
        if isinstance(value, types.ModuleType):
            self._module(value.__name__)
            return "module", value.__name__
        if isinstance(value, staticmethod | classmethod):
            return type(value).__name__, inside(value.__func__)
        if isinstance(value, property):
            return "property", [inside(part) for part in (value.fget, value.fset, value.fdel)]
        if isinstance(value, functools.cached_property):
            return "property", inside(value.func)
        if isinstance(value, functools.partial):
            return "partial", [inside(part) for part in (value.func, value.args, value.keywords)]
        if isinstance(value, type | types.FunctionType):
            numbers[id(value)] = len(numbers)
            module = _module_of(value)
            if module != "__main__" and (module.partition(".")[0] in NO_USERS or _spec(module) is not None):
                self.add(value)
                return "name", module, value.__qualname__
            parts = _class_parts(value) if isinstance(value, type) else _function_parts(value)
            return value.__qualname__, [inside(part) for part in parts]
        if dataclasses.is_dataclass(value):
            fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
            return type(value).__qualname__, inside(fields)
        self.add(value)
        return "object", _module_of(value), type(value).__qualname__, getattr(value, "__qualname__", None)


def _class_parts(kind: type) -> list[Any]:
    return [kind.__bases__, {name: value for name, value in vars(kind).items() if _says_what_a_class_does(name, value)}]


def _says_what_a_class_does(name: str, value: Any) -> bool:
    if name == "_abc_impl" or name.startswith("__annotat"):  # what abstract classes and annotations look up once
        return False
    special = name.startswith("__") and name.endswith("__")
    return not special or name in KEPT_SPECIAL or isinstance(value, CODE)


def _function_parts(function: types.FunctionType) -> list[Any]:
    """The code and defaults of a function, and the constants, functions and classes around it that it names.

    Lists, dicts and sets around a function are what it writes its results into, rather than what it depends on.
    """
    code = function.__code__
    looked_up, assigned = _global_names(code)
    named = {name: function.__globals__[name] for name in looked_up - assigned if name in function.__globals__}
    for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            named[variable] = cell.cell_contents
        except ValueError:  # it has no value yet
            continue
    constants = {name: value for name, value in named.items() if not isinstance(value, list | dict | set)}
    return [code, function.__defaults__, function.__kwdefaults__, constants]


def _global_names(code: types.CodeType) -> tuple[set[str], set[str]]:
    """The names that a function and those inside it look up outside, and those of them that they assign."""
    looked_up = set(code.co_names)
    assigned = {
        str(instruction.argval) for instruction in dis.get_instructions(code) if instruction.opname == "STORE_GLOBAL"
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _global_names(constant)
            looked_up, assigned = looked_up | inner[0], assigned | inner[1]
    return looked_up, assigned


def _module_of(thing: Any) -> str:
    """Where a class, a function, or the class of an object is defined."""
    defined = thing if isinstance(thing, type | types.FunctionType) else type(thing)
    return defined.__module__ or "__main__"


def _spec(name: str) -> Spec | None:
    """Where a module lies; None if there is no such module. Imports nothing."""
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if isinstance(loaded, Spec):
        return loaded
    package, _, _ = name.rpartition(".")
    try:
        if not package:
            return importlib.util.find_spec(name) if name else None
        around = _spec(package)
        places = None if around is None else around.submodule_search_locations
        return None if places is None else importlib.machinery.PathFinder.find_spec(name, list(places))
    except (ImportError, ValueError, AttributeError):  # of a module that was put together by hand
        return None


def _places(spec: Spec) -> list[Path]:
    places = [spec.origin] if spec.origin and spec.has_location else list(spec.submodule_search_locations or ())
    return [Path(place).resolve() for place in places]


def _is_users(spec: Spec) -> bool:
    """Whether a top-level module belongs neither to Python itself nor to what is installed."""
    places = _places(spec)
    library = any(place.is_relative_to(folder) for place in places for folder in _library())
    return bool(places) and not library and not any(INSTALLED & set(place.parts) for place in places)


@functools.cache
def _library() -> set[Path]:
    """The folders of the standard library."""
    return {Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib")}


@functools.lru_cache(maxsize=1024)
def _read_code(suffix: str, content: bytes) -> tuple[str, list[tuple[int, str]]]:
    """The digest of a file, and what it imports anywhere in it: how many packages up, and the name from there.

    Names that come from a module are given as if they were modules, too, for some of them are.
    """
    tree = _parsed(content) if suffix in (".py", ".pyw") else None
    if tree is None:
        return hashlib.sha256(content).hexdigest(), []
    imports: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            imports.append((node.level, module))
            imports += [(node.level, f"{module}.{alias.name}".strip(".")) for alias in node.names if alias.name != "*"]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                imports.append((0, node.args[0].value))
    return _sha256(_written(tree)), imports


def _parsed(content: bytes) -> ast.Module | None:
    """The code in a file; None if it is no Python."""
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError):
        return None


def _written(node: Any) -> str:
    """Code without comments, layout and docstrings, in the same words in every version of Python."""
    if isinstance(node, list):
        return f"[{','.join(map(_written, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
        fields["body"] = fields["body"][1:]
    parts = (f"{name}={_written(value)}" for name, value in fields.items() if value is not None and value != [])
    return f"{type(node).__name__}({','.join(parts)})"


def _with_file(name: str) -> str:
    spec = None if ":" in name else _spec(name)
    return name if spec is None or spec.origin is None else f"{name} ({spec.origin})"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
