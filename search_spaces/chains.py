"""The common part of spaces of layer chains: where small images are halved, and a notation made of lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nasbench_registry import UserError, unknown
from search_spaces.core import Architecture, DecisionSpace, Task

LAST_SIDE = 4  # pixels that the last map of a network for small images keeps


def strides_for(task: Task, strides: Sequence[int]) -> list[int]:
    """The strides of a network for large images, fit for the images of a task.

    As many of the first strides of two become one as leave the last map 4 pixels on its shorter side: a network that
    halves five times does so from 128 pixels on, four times from 64, three times from 32 (CIFAR), once at 8.
    """
    halvings = max(0, (min(task.input_shape[1:]) // LAST_SIDE).bit_length() - 1)
    spare = sum(stride == 2 for stride in strides) - halvings
    fitted = []
    for stride in strides:
        fitted.append(1 if stride == 2 and spare > 0 else stride)
        spare -= stride == 2
    return fitted


def read_lists(text: str, names: Sequence[str], example: str) -> list[list[str]]:
    """The lists in a notation such as ``d2,3-ks3,5``: for each name, in their order, what is listed behind it.

    Raises:
        UserError: Another number of lists, or one with another name.
    """
    pieces = text.strip().split("-")
    if len(pieces) != len(names) or any(not piece.startswith(name) for piece, name in zip(pieces, names, strict=False)):
        raise UserError(f"{text!r} is not an architecture of this space; write it like {example!r}.")
    return [piece.removeprefix(name).split(",") for piece, name in zip(pieces, names, strict=True)]


def read_choices(space: DecisionSpace, chosen: Mapping[str, str], text: str) -> Architecture:
    """The architecture with these options, as text, by the names of the decisions; the others do not matter.

    Raises:
        UserError: A decision has no such option, or the architecture is not valid.
    """
    picks = [0] * len(space.decisions)
    for position, decision in enumerate(space.decisions):
        if decision.name in chosen:
            options = [decision.text(index) for index in range(len(decision.options))]
            if chosen[decision.name] not in options:
                raise unknown(decision.name, chosen[decision.name], options, where=f"in {text!r}")
            picks[position] = options.index(chosen[decision.name])
    return space.architecture(picks)
