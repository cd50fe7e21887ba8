"""Steps in a row."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from nasbench_compression.compilation.backend import CompiledModel
from nasbench_compression.registry import STEPS, get_step, steps
from nasbench_compression.step import Context, Step
from nasbench_registry import UserError


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Result of one step.

    Attributes:
        step: Step with its options.
        model: Network or compiled model after the step.
        note: Note of the step, JSON; see `Step.apply`.
        seconds: Duration of the step, in seconds.
    """

    step: Step
    model: nn.Module | CompiledModel
    note: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Recipe:
    """Compression steps, in an order that is checked when the recipe is made.

    Attributes:
        steps: Steps in the order in which they run.

    Raises:
        UserError: The order makes no sense.
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        self.check()

    @classmethod
    def parse(cls, entries: Sequence[Any] | None) -> Recipe:
        """A recipe as it stands in an experiment file: a list of {name: {option: value}}.

        Raises:
            UserError: An entry has another form, a name, an option or a value is wrong, or the order makes no sense.
        """
        if entries is None:
            return cls(())
        if isinstance(entries, str) or not isinstance(entries, Sequence):
            raise UserError(f"the recipe is {entries!r}; give a list of steps such as - prune: {{ratio: 0.4}}.")
        recipe_steps = []
        for position, entry in enumerate(entries, start=1):
            if isinstance(entry, str):
                entry = {entry: None}
            if not isinstance(entry, dict) or len(entry) != 1:
                raise UserError(
                    f"entry {position} of the recipe is {entry!r}; give one step with its options, "
                    f"such as prune: {{ratio: 0.4}}, where the step is one of {', '.join(steps)}."
                )
            name, options = next(iter(entry.items()))
            options = {} if options is None else options
            if not isinstance(options, dict):
                raise UserError(
                    f"the options of step {name!r}, entry {position} of the recipe, are {options!r}; "
                    f"give them as {{option: value}}."
                )
            recipe_steps.append(get_step(str(name), **{str(key): value for key, value in options.items()}))
        return cls(tuple(recipe_steps))

    def to_json(self) -> list[dict[str, Any]]:
        """The list that `parse` reads; a step that is not ours is named module:Class."""
        return [{_key(step): step.options()} for step in self.steps]

    def check(self) -> None:
        """Refuse an order that makes no sense.

        Raises:
            UserError: A step follows one that it must not follow; the message names both.
        """
        for position, step in enumerate(self.steps):
            for earlier in self.steps[:position]:
                if earlier.name == "compile" or earlier.name in step.not_after:
                    raise UserError(
                        f"step {step.name!r} comes after {earlier.name!r} in the recipe; "
                        + (
                            "compile once, as the last step."
                            if earlier.name == "compile"
                            else f"{earlier.name} once only."
                            if earlier.name == step.name
                            else f"move {step.name!r} before {earlier.name!r}."
                        )
                    )

    def apply(
        self, model: nn.Module, context: Context, on_step: Callable[[StepResult], None] | None = None
    ) -> Iterator[StepResult]:
        """Run the steps, one for each item that is asked for, so that what is done stays if a later step fails.

        A caller that wants to refuse a result and go on from an earlier network loops over `steps` itself.

        Args:
            model: Network to start from; it is not changed. It is the teacher unless the context has one.
            context: Context that the steps work with.
            on_step: Function that is called with each result before it is yielded.

        Raises:
            UserError: A step's options do not fit the network.
        """
        if context.teacher is None:
            context = dataclasses.replace(context, teacher=model)
        current: nn.Module | CompiledModel = model
        for step in self.steps:
            assert isinstance(current, nn.Module), "check() allows nothing after a compiled model"
            started = time.perf_counter()
            current, note = step.apply(current, context)
            result = StepResult(step=step, model=current, note=note, seconds=time.perf_counter() - started)
            if on_step is not None:
                on_step(result)
            yield result


def _key(step: Step) -> str:
    kind = type(step)
    return step.name if STEPS.get(step.name) is kind else f"{kind.__module__}:{kind.__qualname__}"
