"""What docstrings say of names, keys and options, and the tables that reference pages are made of."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen
from griffe import Docstring, DocstringSectionKind, Parser
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

FIELDS = (DocstringSectionKind.attributes, DocstringSectionKind.parameters)


def first_paragraph(thing: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def all_text(thing: Any) -> str:
    """A docstring without its sections, such as Args and Raises."""
    sections = _sections(inspect.getdoc(thing) or "")
    return "\n\n".join(section.value for section in sections if section.kind is DocstringSectionKind.text)


def meanings(*things: Any) -> dict[str, str]:
    """What the sections Args and Attributes of some docstrings say, by name; the first one that has a name counts."""
    said: dict[str, str] = {}
    for thing in things:
        for section in _sections(inspect.getdoc(thing) or ""):
            if section.kind in FIELDS:
                for item in section.value:
                    said.setdefault(item.name, " ".join(item.description.split()))
    return said


def _sections(text: str) -> Sequence[Any]:
    return Docstring(text).parse(Parser.google, warnings=False)


def class_meanings(cls: type) -> dict[str, str]:
    """What a class and the classes that it derives from say of fields."""
    return meanings(*(base for base in cls.__mro__ if base.__module__.split(".")[0] not in ("builtins", "pydantic")))


def type_text(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type as a user of YAML knows it: ``integer from 1``, ``one of: a, b``, ``text or null``."""
    base, limits = annotation, list(metadata)
    if typing.get_origin(annotation) is typing.Annotated:
        base, *inner = typing.get_args(annotation)
        for one in inner:
            limits += getattr(one, "metadata", None) or [one]
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if origin in (typing.Union, types.UnionType):
        parts = [type_text(part, limits if part is not type(None) else ()) for part in arguments]
        return " or ".join(dict.fromkeys(parts))
    if origin is typing.Literal:
        return "one of: " + ", ".join(f"`{value}`" for value in arguments)
    plain = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null", Any: "anything"}
    if base in plain:
        return plain[base] + _limits(limits)
    if origin in (list, tuple, set) or getattr(origin, "__name__", "") in ("Sequence", "Iterable", "Collection"):
        inner = list(dict.fromkeys(type_text(one) for one in arguments if one is not Ellipsis))
        return "list of " + " or ".join(inner) if inner else "list"
    if origin is dict or getattr(origin, "__name__", "") in ("Mapping", "MutableMapping"):
        return "mapping of " + " to ".join(type_text(one) for one in arguments)
    if inspect.isclass(base) and issubclass(base, BaseModel):
        return "a name with its options" if base.__name__ == "Named" else "a section"
    return f"`{getattr(base, '__name__', str(base))}`".replace("|", "\\|")


def _limits(limits: Iterable[Any]) -> str:
    said = []
    for limit in limits:
        for bound in (limit, *(getattr(limit, "metadata", None) or ())):
            if isinstance(bound, Interval):
                said += [f"from {bound.ge}"] if bound.ge is not None else []
                said += [f"up to {bound.le}"] if bound.le is not None else []
            elif isinstance(bound, Ge):
                said.append(f"from {bound.ge}")
            elif isinstance(bound, Gt):
                said.append(f"above {bound.gt}")
            elif isinstance(bound, Le):
                said.append(f"up to {bound.le}")
            elif isinstance(bound, Lt):
                said.append(f"below {bound.lt}")
            elif isinstance(bound, MinLen):
                said.append("not empty")
    return "".join(f" {part}" for part in dict.fromkeys(said))


def value_text(value: Any) -> str:
    """A default value as YAML writes it."""
    if value in (inspect.Parameter.empty, PydanticUndefined, dataclasses.MISSING):
        return "required"
    if isinstance(value, BaseModel):
        name = getattr(value, "name", None)
        return f"`{name}`" if isinstance(name, str) else "see below"
    if isinstance(value, tuple) and any(isinstance(one, BaseModel) for one in value):
        return f"`{[one.model_dump() for one in value]}`"
    if isinstance(value, tuple | list):
        return f"`{list(value)}`"
    if value is None or isinstance(value, bool):
        return f"`{'null' if value is None else str(value).lower()}`"
    return f"`{value}`"


def model_rows(model: type[BaseModel]) -> list[tuple[str, str, str, str]]:
    """Name, type, default and meaning of each key of a section."""
    said = class_meanings(model)
    rows = []
    for name, field in model.model_fields.items():
        default = field.default
        if default is PydanticUndefined and field.default_factory is not None:
            default = field.default_factory()  # type: ignore[call-arg]  # none of ours reads the other values
        meaning = said.get(name, "")
        inner = inner_models(field.annotation)
        if not meaning and name == "name" and typing.get_origin(field.annotation) is typing.Literal:
            meaning = "Chooses this section."
        if not meaning and len(inner) == 1:
            meaning = first_paragraph(inner[0])
        rows.append((name, type_text(field.annotation, field.metadata), value_text(default), meaning))
    return rows


def inner_models(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a type holds, at any depth of its unions and lists; names with options are none."""
    if inspect.isclass(annotation):
        named = annotation.__name__ == "Named"
        return [annotation] if issubclass(annotation, BaseModel) and not named else []
    return list(dict.fromkeys(inner for part in typing.get_args(annotation) for inner in inner_models(part)))


def option_rows(thing: Any, leave_out: Iterable[str] = ()) -> list[tuple[str, str, str, str]]:
    """Name, type, default and meaning of each option of a class or a function; what it is given is left out."""
    if inspect.isclass(thing) and issubclass(thing, BaseModel):
        return model_rows(thing)
    said = class_meanings(thing) if inspect.isclass(thing) else meanings(thing)
    if inspect.isclass(thing):
        said = meanings(thing.__init__) | said
    function = thing.__init__ if inspect.isclass(thing) else thing
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError:  # of a name that is imported for type checkers alone
        hints = {}
    skip = {"self", *leave_out}
    rows = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in skip or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        annotation = hints.get(name, parameter.annotation)
        kind = f"`{annotation}`".replace("|", "\\|") if isinstance(annotation, str) else type_text(annotation)
        rows.append((name, kind, value_text(parameter.default), said.get(name, "")))
    return rows


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell.replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def sentence(text: str) -> str:
    """A text that begins with a capital letter and ends with a stop."""
    text = text.strip()
    text = text[:1].upper() + text[1:] if text[:1].isalpha() and text[:2] not in ("pH",) else text
    return text if not text or text[-1] in ".!?:" else text + "."


def code_rows(rows: Iterable[tuple[str, str, str, str]]) -> list[Sequence[str]]:
    """Rows of `model_rows` or `option_rows`, ready for a table."""
    return [(f"`{name}`", kind, default, sentence(meaning)) for name, kind, default, meaning in rows]


Pages = Mapping[str, str]
