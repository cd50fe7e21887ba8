"""Read an experiment file, with overrides; word every mistake in one sentence."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from nasbench.experiment.experiment import Experiment
from nasbench_registry import UserError, unknown
from nasbench_registry.files import key_value, read_yaml


def load_experiment(path: Path, overrides: Sequence[str] = (), seed: int | None = None) -> Experiment:
    """The experiment in a YAML file.

    Args:
        path: Path of the file.
        overrides: ``key=value`` texts; the key may be dotted (``training.epochs=2``), the value is YAML.
        seed: Random seed that replaces the seed of the file.

    Raises:
        UserError: the file is missing or no YAML, or a key or value is not allowed.
    """
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise UserError(
            f"{path} holds {type(data).__name__}, not an experiment; write keys such as 'space' and 'data'."
        )
    data.setdefault("name", path.stem)
    if seed is not None:
        overrides = [*overrides, f"seed={seed}"]
    return override(data, overrides)


def override(data: dict[str, Any], overrides: Sequence[str]) -> Experiment:
    """The experiment in a dict, with ``key=value`` texts set in it; UserError for what is not allowed."""
    for text in overrides:
        _set(data, text)
    return parse_experiment(data)


def parse_experiment(data: dict[str, Any]) -> Experiment:
    """The experiment in a dict as YAML gives it; UserError for what is not allowed."""
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        raise UserError(_sentence(error)) from None


TAGS: dict[int | str, tuple[str, ...]] = {
    "reward": ("weighted_product", "pareto", "scalar"),
    "start_with": ("architectures", "source"),
    "survivors": ("constrained-int",),
}
"""Kinds of values of the keys that have several."""


def _set(data: dict[str, Any], text: str) -> None:
    key, value = key_value(text, "override", "training.epochs=2")
    *parents, last = key.split(".")
    place: Any = data
    for parent in parents:
        at: Any = _index(place, parent, text) if isinstance(place, list) else parent
        below = place[at] if isinstance(place, list) else place.get(at)
        if isinstance(below, str):
            below = {"name": below} if isinstance(place, dict) else {below: {}}  # the short form of a thing or a step
        elif below is None:
            below = {}
        if not isinstance(below, dict | list):
            raise UserError(f"override {text!r}: {parent!r} holds a value and has no keys below it.")
        place[at] = below
        place = below
    place[_index(place, last, text) if isinstance(place, list) else last] = value


def _index(place: list[Any], part: str, text: str) -> int:
    if not part.isdecimal() or int(part) >= len(place):
        raise UserError(f"override {text!r}: {part!r} is not an index below {len(place)}.")
    return int(part)


def _sentence(error: ValidationError) -> str:
    """The first mistake in one sentence; a misspelt key first, for it often causes the others."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    place = ".".join(str(part) for part in problem["loc"] if not _is_tag(part, problem["loc"])) or "the experiment"
    kind = problem["type"]
    if kind == "extra_forbidden":
        *parents, key = problem["loc"]
        where = ".".join(str(part) for part in parents if not _is_tag(part, problem["loc"])) or "the experiment"
        return str(unknown("key", str(key), _keys(parents), where=f"in {where}"))
    if kind == "missing":
        return f"the key {place!r} is missing; add it to the experiment."
    if kind == "value_error":
        text = str(problem["ctx"]["error"])
        return f"{place}: {text}" if problem["loc"] else text
    if kind == "union_tag_not_found" and isinstance(problem["input"], dict):
        return f"the key {f'{place}.name'!r} is missing; add it to the experiment."
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        allowed = [
            tag.strip(" '")
            for tag in problem["ctx"].get("expected_tags", "weighted_product, pareto, scalar").split(",")
        ]
        name = problem["input"].get("name") if isinstance(problem["input"], dict) else problem["input"]
        return str(unknown(f"{place} name", str(name), allowed))
    if kind == "literal_error":
        allowed = [option.strip(" '") for option in problem["ctx"]["expected"].replace(" or ", ",").split(",")]
        return str(unknown(f"value of {place}:", str(problem["input"]), [option for option in allowed if option]))
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"{place} is {problem['input']!r}; write it as keys with their values."
    if kind == "string_pattern_mismatch":
        return f"{place} is {problem['input']!r}; use letters, digits, '.', '-' and '_' only."
    if kind in ("tuple_type", "list_type"):
        return f"{place} is {_shortened(problem['input'])}; write it as a list."
    if kind in ("too_short", "string_too_short"):
        return f"{place} is {problem['input']!r}; it must not be empty."
    message = problem["msg"].replace("Input should", "it should")
    return f"{place} is {_shortened(problem['input'])}: {message}."


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _is_tag(part: int | str, loc: tuple[int | str, ...]) -> bool:
    # pydantic puts the tag of a discriminated union into the path: reward.weighted_product.target
    return len(loc) > 1 and part == loc[1] and part in TAGS.get(loc[0], ())


def _keys(parents: Sequence[int | str]) -> list[str]:
    """The keys allowed below a path of the experiment."""
    kind: Any = Experiment
    for part in parents:
        models = list(_models(kind.model_fields[str(part)].annotation)) if _has(kind, part) else []
        tagged = [model for model in _models(kind) if _tag(model) == part]
        if models:
            kind = models[0] if len(models) == 1 else typing.Union[tuple(models)]  # noqa: UP007  # built at run time
        elif tagged:
            kind = tagged[0]
    return sorted(next(_models(kind)).model_fields)


def _has(kind: Any, part: int | str) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel) and str(part) in kind.model_fields


def _models(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (typing.Union, types.UnionType, tuple, list, typing.Annotated):
        for inner in get_args(annotation):
            yield from _models(inner)


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("name")
    options = get_args(field.annotation) if field else ()
    return str(options[0]) if len(options) == 1 else None
