"""The contract of a search space: decisions, architectures, and what can be done with them.

A space is a name, its decisions and `build`; everything else has a default. A complete one:

    class Tiny(SearchSpace):
        name = "tiny"
        decisions = (Decision("depth", (1, 2, 3)), Decision("width", (8, 16, 32)))

        def build(self, arch, task):
            choice = self.choices(arch)
            layers, channels = [], task.input_shape[0]
            for _ in range(choice["depth"]):
                layers += [nn.Conv2d(channels, choice["width"], 3, padding=1), nn.ReLU()]
                channels = choice["width"]
            return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, task.classes))
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import nn

from nasbench_registry import UserError, nearest

MAX_TRIES = 1000


class NoValidArchitecture(UserError):
    """Sampling met no valid architecture within its tries."""


@dataclass(frozen=True)
class Decision:
    """One choice of a space.

    Attributes:
        name: unique in the space.
        options: the JSON values to choose from, in an order where neighbours are similar if there is such an order.
    """

    name: str
    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if not self.options:
            raise UserError(f"decision {self.name!r} has no options; give it at least one.")
        texts = [self.text(index) for index in range(len(self.options))]
        if len(set(texts)) != len(texts):
            raise UserError(f"decision {self.name!r} repeats an option among {', '.join(texts)}; list each one once.")

    def text(self, index: int) -> str:
        """Option number `index` as text: a string as it is, anything else as JSON."""
        option = self.options[index]
        if isinstance(option, str):
            return option
        try:
            return json.dumps(option)
        except TypeError:
            raise UserError(
                f"decision {self.name!r} has the option {option!r}, which is not a JSON value; use numbers, strings, "
                f"booleans or lists, and turn them into modules in build()."
            ) from None


@dataclass(frozen=True)
class Architecture:
    """One point of a space: the index of the chosen option for every decision, in the order of the decisions."""

    space: str
    picks: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {"space": self.space, "picks": list(self.picks)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Architecture:
        """The architecture that `to_json` wrote."""
        return cls(str(data["space"]), tuple(int(pick) for pick in data["picks"]))


@dataclass(frozen=True)
class Task:
    """What a network has to do: the shape of one image (channels, height, width) and the number of classes."""

    input_shape: tuple[int, int, int]
    classes: int

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.input_shape)
        if len(shape) != 3 or min(shape) < 1:
            raise UserError(f"input_shape {self.input_shape!r} is not (channels, height, width) with sizes above 0.")
        if self.classes < 2:
            raise UserError(f"classes is {self.classes}; a classification task has at least 2.")
        object.__setattr__(self, "input_shape", shape)


class SearchSpace(ABC):
    """A finite set of networks, spanned by decisions.

    Subclasses set `name` and `decisions` (as class attributes, or in `__init__` from keyword options) and define
    `build`. They may narrow the set with `is_valid`, merge equal networks with `canonical`, and bring the
    notation of their paper with `format` and `parse`.
    """

    name: str
    decisions: tuple[Decision, ...]
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""

    @abstractmethod
    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """A new network with fresh weights: (n, *task.input_shape) float32 -> (n, task.classes) logits."""

    # ---- what may be overridden

    def is_valid(self, arch: Architecture) -> bool:
        """Whether the architecture belongs to this space."""
        return (
            arch.space == self.name
            and len(arch.picks) == len(self.decisions)
            and all(0 <= pick < size for pick, size in zip(arch.picks, self._sizes_list, strict=True))
        )

    def canonical(self, arch: Architecture) -> Architecture:
        """The representative of all architectures that build the same network; idempotent."""
        return arch

    def format(self, arch: Architecture) -> str:
        """The architecture in the notation of the field; here ``decision=option`` pairs joined by commas."""
        self.require_valid(arch)
        return ",".join(f"{d.name}={d.text(pick)}" for d, pick in zip(self.decisions, arch.picks, strict=True))

    def parse(self, text: str) -> Architecture:
        """The architecture that `format` wrote.

        Raises:
            UserError: the text is not an architecture of this space.
        """
        rest = text.strip()
        picks = []
        for position, decision in enumerate(self.decisions):
            start = f"{'' if position == 0 else ','}{decision.name}="
            if not rest.startswith(start):
                raise UserError(f"expected {start!r} at {rest!r} while reading an architecture of {self.name!r}.")
            rest = rest[len(start) :]
            fits = [i for i in range(len(decision.options)) if rest.startswith(decision.text(i))]
            if not fits:
                allowed = [decision.text(i) for i in range(len(decision.options))]
                wrong = rest.split(",")[0]
                guess = nearest(wrong, allowed)
                hint = f" Did you mean {guess!r}?" if guess else ""
                raise UserError(
                    f"decision {decision.name!r} has no option {wrong!r}; known: {', '.join(allowed)}.{hint}"
                )
            pick = max(fits, key=lambda i: len(decision.text(i)))
            rest = rest[len(decision.text(pick)) :]
            picks.append(pick)
        if rest:
            raise UserError(f"unexpected {rest!r} after the last decision of space {self.name!r}.")
        return self.architecture(picks)

    # ---- what every space has

    @cached_property
    def _sizes_list(self) -> list[int]:
        return [len(decision.options) for decision in self.decisions]

    @cached_property
    def _sizes(self) -> npt.NDArray[np.int64]:
        return np.array(self._sizes_list, dtype=np.int64)

    @property
    def size(self) -> int:
        """Number of architectures, invalid and equal ones included: the product of the numbers of options."""
        return math.prod(self._sizes_list)

    def architecture(self, picks: Sequence[int]) -> Architecture:
        """The valid architecture with these picks; raises UserError if it is not one."""
        arch = Architecture(self.name, tuple(int(pick) for pick in picks))
        self.require_valid(arch)
        return arch

    def require_valid(self, arch: Architecture) -> None:
        """Raise UserError unless the architecture belongs to this space."""
        if arch.space != self.name:
            raise UserError(f"architecture {arch.picks} belongs to space {arch.space!r}, not to {self.name!r}.")
        if not self.is_valid(arch):
            raise UserError(
                f"picks {arch.picks} are not an architecture of space {self.name!r}, whose {len(self.decisions)} "
                f"decisions have {self._sizes_list} options."
            )

    def choices(self, arch: Architecture) -> dict[str, Any]:
        """The chosen option of every decision, by the name of the decision."""
        self.require_valid(arch)
        return {d.name: d.options[pick] for d, pick in zip(self.decisions, arch.picks, strict=True)}

    def sample(self, rng: np.random.Generator, max_tries: int = MAX_TRIES) -> Architecture:
        """A valid architecture, uniform over the picks.

        Raises:
            NoValidArchitecture: none of `max_tries` draws was valid.
        """
        for _ in range(max_tries):
            arch = Architecture(self.name, tuple(rng.integers(self._sizes).tolist()))
            if self.is_valid(arch):
                return arch
        raise NoValidArchitecture(
            f"space {self.name!r} gave no valid architecture in {max_tries} draws; loosen its is_valid()."
        )

    @cached_property
    def _free(self) -> list[int]:
        """The decisions that have something to choose."""
        return [position for position, size in enumerate(self._sizes_list) if size > 1]

    def mutate(self, arch: Architecture, rng: np.random.Generator, max_tries: int = MAX_TRIES) -> Architecture:
        """A valid architecture in which exactly one decision, chosen uniformly, takes another option."""
        if not self._free:
            raise NoValidArchitecture(f"space {self.name!r} has a single architecture; there is nothing to mutate.")
        for _ in range(max_tries):
            position = self._free[int(rng.integers(len(self._free)))]
            pick = int(rng.integers(self._sizes_list[position] - 1))
            pick += pick >= arch.picks[position]
            child = Architecture(self.name, (*arch.picks[:position], pick, *arch.picks[position + 1 :]))
            if self.is_valid(child):
                return child
        raise NoValidArchitecture(
            f"no valid mutation of {arch.picks} in space {self.name!r} within {max_tries} tries; loosen is_valid()."
        )

    def crossover(
        self, a: Architecture, b: Architecture, rng: np.random.Generator, max_tries: int = MAX_TRIES
    ) -> Architecture:
        """Uniform crossover: every decision comes from one of the parents, each with probability one half."""
        for _ in range(max_tries):
            mask = rng.integers(2, size=len(a.picks)).tolist()
            picks = tuple(x if keep else y for x, y, keep in zip(a.picks, b.picks, mask, strict=True))
            child = Architecture(self.name, picks)
            if self.is_valid(child):
                return child
        raise NoValidArchitecture(
            f"no valid crossover of {a.picks} and {b.picks} in space {self.name!r} within {max_tries} tries."
        )

    def neighbors(self, arch: Architecture) -> Iterator[Architecture]:
        """Every valid architecture that differs from `arch` in one decision, in a fixed order."""
        for position, size in enumerate(self._sizes_list):
            for pick in range(size):
                if pick != arch.picks[position]:
                    other = Architecture(self.name, (*arch.picks[:position], pick, *arch.picks[position + 1 :]))
                    if self.is_valid(other):
                        yield other

    def one_hot(self, archs: Sequence[Architecture]) -> npt.NDArray[np.float64]:
        """An (n, d) array of zeros and ones: one column for every option of every decision."""
        picks = np.array([arch.picks for arch in archs], dtype=np.int64).reshape(len(archs), len(self.decisions))
        starts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]]).astype(np.int64)
        encoded = np.zeros((len(archs), int(self._sizes.sum())))
        np.put_along_axis(encoded, picks + starts, 1.0, axis=1)
        return encoded
