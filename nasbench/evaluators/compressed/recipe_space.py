"""Recipes as a search space: any option of any step may be a choice.

    recipe:
      - prune: {ratio: {choice: [0, 0.25, 0.5]}, round_to: 8, epochs: 1}
      - choice: [null, {quantize: {precision: int8}}, {quantize: {precision: int8, method: dynamic}}]
      - compile: {backend: {choice: [onnxruntime, openvino]}}

A choice of a whole step is a list of steps, of which null leaves the place empty. An option with which a step would do
nothing, such as ratio 0, leaves the step out, and its other choices do not matter then.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasbench_compression import Recipe, get_step
from nasbench_compression.registry import steps as known_steps
from nasbench_registry import UserError, nearest
from search_spaces import Architecture, Decision, DecisionSpace

CHOICE = "choice"
NONE = "none"  # the option of a place that leaves it empty
NAME = "recipe"
TRIES = 200  # recipes among which an option has to occur in a valid one


@dataclass(frozen=True)
class _Field:
    """A choice inside the options of a step: where it is, and the decision that makes it."""

    path: tuple[str, ...]
    decision: str


@dataclass(frozen=True)
class _Step:
    """A step of a place.

    Attributes:
        name: Name of the step in the registry.
        options: Options as written; choices are replaced when a recipe is made.
        fields: Choices of the step.
        left_out: Options with which the step does nothing, by the decision that has them.
    """

    name: str
    options: Mapping[str, Any]
    fields: tuple[_Field, ...]
    left_out: Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True)
class _Place:
    """An entry of the recipe: one step, or the steps that `decision` chooses from by name."""

    decision: str | None
    steps: Mapping[str, _Step | None]


def has_choice(entries: Sequence[Any]) -> bool:
    """Whether a recipe, as it is written, leaves something to choose."""
    return any(_contains(entry) for entry in entries)


class RecipeSpace(DecisionSpace):
    """All recipes that a list of steps with choices allows.

    Points are `Architecture` values of this space; `recipe` gives the recipe of one. Combinations that a step or the
    order of steps refuses are not valid.

    Args:
        entries: Recipe as it stands in an experiment file.

    Raises:
        UserError: Nothing is to be chosen, a name or an option is wrong, with the nearest one, or an option occurs in
            no valid recipe.
    """

    name = NAME
    summary = "the recipes that a list of steps with choices allows"

    def __init__(self, entries: Sequence[Any]) -> None:
        decisions: list[Decision] = []
        self.places = tuple(_place(entry, position, decisions) for position, entry in enumerate(entries, start=1))
        if not decisions:
            raise UserError(
                "the recipe leaves nothing to choose; write an option as {choice: [...]}, or search without a recipe."
            )
        self.decisions = tuple(decisions)
        self._recipes: dict[tuple[int, ...], Recipe | UserError] = {}
        self._check_every_option()

    def recipe(self, point: Architecture) -> Recipe:
        """The recipe of a point.

        Raises:
            UserError: It is no valid one.
        """
        recipe = self._recipes.get(point.picks)
        if recipe is None:
            if len(self._recipes) > 10_000:
                self._recipes.clear()
            try:
                recipe = Recipe.parse(self.entries(point))
            except UserError as error:
                recipe = error
            self._recipes[point.picks] = recipe
        if isinstance(recipe, UserError):
            raise recipe
        return recipe

    def entries(self, point: Architecture) -> list[dict[str, Any]]:
        """The recipe of a point as it would be written without choices."""
        chosen = {
            decision.name: decision.options[pick] for decision, pick in zip(self.decisions, point.picks, strict=True)
        }
        written = []
        for place in self.places:
            step = place.steps[chosen[place.decision]] if place.decision else next(iter(place.steps.values()))
            if step is not None and not any(chosen[name] in none for name, none in step.left_out.items()):
                written.append({step.name: _filled(step.options, step.fields, chosen)})
        return written

    def is_valid(self, arch: Architecture) -> bool:
        """Whether the steps, their options and their order are allowed."""
        if not super().is_valid(arch):
            return False
        try:
            self.recipe(arch)
        except UserError:
            return False
        return True

    def backends(self) -> list[str]:
        """The backends that its recipes may compile with."""
        backends = {
            str(backend)
            for place in self.places
            for step in place.steps.values()
            if step is not None and step.name == "compile"
            for backend in _options(step, ("backend",), self.decisions, default="onnxruntime")
        }
        return sorted(backends)

    def teachers(self) -> list[str]:
        """The folders of the teachers that its recipes name."""
        teachers = {
            str(folder)
            for place in self.places
            for step in place.steps.values()
            if step is not None
            for folder in _options(step, ("teacher",), self.decisions, default=None)
            if folder is not None
        }
        return sorted(teachers)

    def _check_every_option(self) -> None:
        """Each option has to occur in a valid recipe, or its author is mistaken."""
        rng = np.random.default_rng(0)
        for position, decision in enumerate(self.decisions):
            for pick in range(len(decision.options)):
                problem: UserError | None = None
                for picks in itertools.islice(self._with(position, pick, rng), TRIES):
                    if not self.layout.active(picks)[position]:
                        continue
                    try:
                        self.recipe(Architecture(self.name, picks))
                        break
                    except UserError as error:
                        problem = problem or error
                else:
                    why = str(problem) if problem else "the steps that it belongs to are always left out."
                    raise UserError(f"the choice {decision.name}={decision.text(pick)} fits no recipe: {why}")

    def _with(self, position: int, pick: int, rng: np.random.Generator) -> Iterator[tuple[int, ...]]:
        """Picks with one of them given: all if there are few, else the first ones and random ones."""
        sizes = self.layout.sizes
        if np.prod([size for index, size in enumerate(sizes) if index != position], dtype=float) <= TRIES:
            ranges = [range(size) if index != position else (pick,) for index, size in enumerate(sizes)]
            yield from itertools.product(*ranges)
            return
        while True:
            picks = rng.integers(sizes).tolist()
            picks[position] = pick
            yield tuple(picks)


def _place(entry: Any, position: int, decisions: list[Decision]) -> _Place:
    if isinstance(entry, Mapping) and set(entry) == {CHOICE}:
        alternatives = entry[CHOICE]
        if not isinstance(alternatives, list | tuple) or not alternatives:
            raise UserError(
                f"entry {position} of the recipe chooses from {alternatives!r}; give a list of steps, where null "
                f"leaves the place empty."
            )
        names = _names(alternatives)
        decision = f"step{position}"
        decisions.append(Decision(decision, tuple(names)))
        steps = {
            name: None
            if alternative is None
            else _step(alternative, position, decisions, label=f"{decision}.{name}", when={decision: name})
            for name, alternative in zip(names, alternatives, strict=True)
        }
        return _Place(decision, steps)
    used_labels = {decision.name.partition(".")[0] for decision in decisions}
    name, _ = _named(entry, position)
    label = name.replace(":", "_").replace(".", "_")
    label = _free(label, used_labels)
    return _Place(None, {label: _step(entry, position, decisions, label=label, when={})})


def _names(alternatives: Sequence[Any]) -> list[str]:
    """A name for each step of a place: its own, numbered where there are several."""
    names: list[str] = []
    for alternative in alternatives:
        own = (
            NONE
            if alternative is None
            else str(alternative if isinstance(alternative, str) else next(iter(alternative)))
        )
        names.append(_free(own, names))
    return names


def _free(name: str, used_names: Collection[str]) -> str:
    """The name, numbered if it is taken."""
    numbered = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(label for label in numbered if label not in used_names)


def _named(entry: Any, position: int) -> tuple[str, dict[str, Any]]:
    """Name and options of an entry."""
    if isinstance(entry, str):
        return entry, {}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise UserError(
            f"entry {position} of the recipe is {entry!r}; give one step with its options, such as prune: "
            f"{{ratio: 0.4}}, or a choice of steps."
        )
    name, options = next(iter(entry.items()))
    if not isinstance(options, Mapping | None):
        guess = f" Did you mean {CHOICE!r}?" if isinstance(options, list) and nearest(str(name), [CHOICE]) else ""
        raise UserError(
            f"the options of step {name!r}, entry {position} of the recipe, are {options!r}; "
            f"give them as {{option: value}}.{guess}"
        )
    return str(name), dict(options or {})


def _step(entry: Any, position: int, decisions: list[Decision], *, label: str, when: Mapping[str, Any]) -> _Step:
    name, options = _named(entry, position)
    nothing = known_steps.find(name).nothing
    choices = sorted(
        _choices(options, (), name), key=lambda choice: choice[0][-1] not in nothing
    )  # what may leave it out first
    fields: list[_Field] = []
    left_out: dict[str, tuple[Any, ...]] = {}
    conditions = dict(when)
    for path, values in choices:
        decision = Decision(".".join((label, *path)), tuple(values), when=dict(conditions))
        fields.append(_Field(path, decision.name))
        decisions.append(decision)
        none = tuple(value for value in values if path[0] in nothing and value in (nothing[path[0]], None))
        if none and len(path) == 1:
            left_out[decision.name] = none
            remaining = tuple(value for value in values if value not in none)
            if not remaining:
                raise UserError(
                    f"{name} {'.'.join(path)} chooses only from {values}, with which the step does nothing; leave the "
                    f"step out, or add an option."
                )
            conditions[decision.name] = remaining
    step = _Step(name, options, tuple(fields), left_out)
    if not fields:
        get_step(name, **options)  # for its errors
    return step


def _choices(
    options: Mapping[str, Any], path: tuple[str, ...], step: str
) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Where choices are, and what they choose from."""
    for key, value in options.items():
        key_path = (*path, str(key))
        if not isinstance(value, Mapping):
            continue
        if set(value) == {CHOICE}:
            choice = value[CHOICE]
            if not isinstance(choice, list | tuple) or len(choice) < 1:
                raise UserError(
                    f"{step} {'.'.join(key_path)} chooses from {choice!r}; give a list such as [0, 0.25, 0.5]."
                )
            yield key_path, list(choice)
        elif len(value) == 1 and nearest(str(next(iter(value))), [CHOICE]):
            raise UserError(
                f"{step} {'.'.join(key_path)} has the unknown key {next(iter(value))!r}. Did you mean {CHOICE!r}?"
            )
        else:
            yield from _choices(value, key_path, step)


def _filled(options: Mapping[str, Any], fields: Sequence[_Field], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Options with each choice replaced by what was chosen."""
    paths = {field.path: chosen[field.decision] for field in fields}

    def fill(value: Any, path: tuple[str, ...]) -> Any:
        if path in paths:
            return paths[path]
        if isinstance(value, Mapping):
            return {key: fill(nested, (*path, str(key))) for key, nested in value.items()}
        return value

    return {key: fill(value, (str(key),)) for key, value in options.items()}


def _options(step: _Step, path: tuple[str, ...], decisions: Sequence[Decision], *, default: Any) -> Sequence[Any]:
    """All values that an option of a step may take."""
    for field in step.fields:
        if field.path == path:
            return next(decision.options for decision in decisions if decision.name == field.decision)
    return [functools.reduce(lambda nested, key: nested.get(key, default), path, step.options)]


def _contains(value: Any) -> bool:
    if isinstance(value, Mapping):
        return CHOICE in value or any(_contains(nested) for nested in value.values())
    return isinstance(value, list | tuple) and any(_contains(item) for item in value)
