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

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from nasbench_registry import UserError, unknown
from search_spaces.decision import Decision
from search_spaces.diagram import Graph, network_chain
from search_spaces.graf import graf_features
from search_spaces.layout import Layout
from search_spaces.paths import PathGraphs
from search_spaces.task import Task

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MAX_TRIES", "Architecture", "Decision", "DecisionSpace", "NoValidArchitecture", "SearchSpace", "Task"]

MAX_TRIES = 1000
COUNTABLE = 20_000_000  # architectures that count_distinct goes through


class NoValidArchitecture(UserError):
    """Sampling met no valid architecture within its tries."""


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


class DecisionSpace:
    """A finite set of points, spanned by decisions: an architecture, the options of a recipe, ...

    Subclasses set `name` and `decisions` (as class attributes, or in `__init__` from keyword options). They may narrow
    the set with `is_valid`, merge equal points with `canonical`, and bring a notation with `format` and `parse`.
    """

    name: str
    decisions: tuple[Decision, ...]
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""

    # ---- what may be overridden

    def is_valid(self, arch: Architecture) -> bool:
        """Whether the architecture belongs to this space: its own rules, and those of its inner spaces."""
        picks, layout = arch.picks, self.layout
        if arch.space != self.name or len(picks) != len(layout.sizes):
            return False
        for pick, size in zip(picks, layout.sizes, strict=True):
            if not 0 <= pick < size:
                return False
        if not layout.parts:
            return True
        flags = layout.active(picks)
        return all(
            part.space.is_valid(Architecture(part.space.name, picks[part.start : part.stop]))
            for part in layout.parts
            if layout.holds(part.conditions, flags, picks)
        )

    def canonical(self, arch: Architecture) -> Architecture:
        """The representative of all architectures that build the same network; idempotent.

        Here decisions that do not matter get their first option, and inner spaces have their own word.
        """
        layout = self.layout
        if not layout.conditional and not layout.parts:
            return arch
        picks = arch.picks
        flags = layout.active(picks)
        for part in layout.parts:
            if layout.holds(part.conditions, flags, picks):
                within = Architecture(part.space.name, picks[part.start : part.stop])
                picks = (*picks[: part.start], *part.space.canonical(within).picks, *picks[part.stop :])
        if picks != arch.picks:
            flags = layout.active(picks)
        return Architecture(self.name, tuple(pick if flag else 0 for pick, flag in zip(picks, flags, strict=True)))

    def format(self, arch: Architecture) -> str:
        """The architecture in the notation of the field; here ``decision=option`` pairs of those that matter."""
        self.require_valid(arch)
        flags = self.layout.active(arch.picks)
        return ",".join(
            f"{decision.name}={decision.text(pick)}"
            for decision, pick, flag in zip(self.decisions, arch.picks, flags, strict=True)
            if flag
        )

    def parse(self, text: str) -> Architecture:
        """The architecture that `format` wrote.

        Raises:
            UserError: The text is not an architecture of this space.
        """
        remaining_text = text.strip()
        picks = [0] * len(self.decisions)
        flags: list[bool] = []
        for position, (decision, conditions) in enumerate(zip(self.decisions, self.layout.conditions, strict=True)):
            flags.append(self.layout.holds(conditions, flags, picks))
            if not flags[-1]:
                continue
            start = f"{',' if sum(flags) > 1 else ''}{decision.name}="
            if not remaining_text.startswith(start):
                raise UserError(
                    f"expected {start!r} at {remaining_text!r} while reading an architecture of {self.name!r}."
                )
            remaining_text = remaining_text[len(start) :]
            picks[position] = _read_option(decision, remaining_text)
            remaining_text = remaining_text[len(decision.text(picks[position])) :]
        if remaining_text:
            raise UserError(f"unexpected {remaining_text!r} after the last decision of space {self.name!r}.")
        return self.architecture(picks)

    # ---- what every space has

    @cached_property
    def layout(self) -> Layout:
        """Which decisions matter, given the others; raises UserError if the conditions make no sense."""
        return Layout(self.decisions, self.name)

    @cached_property
    def _sizes(self) -> npt.NDArray[np.int64]:
        return np.array(self.layout.sizes, dtype=np.int64)

    @property
    def size(self) -> int:
        """Number of architectures that differ in a decision that matters, invalid and otherwise equal ones included."""
        return self.layout.size

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
                f"decisions have {self.layout.sizes} options."
            )

    def network_key(self, arch: Architecture) -> tuple[int, ...]:
        """The same for all points that build the same network: the picks of the canonical architecture."""
        return self.canonical(arch).picks

    def choices(self, arch: Architecture) -> dict[str, Any]:
        """The chosen option of every decision that matters, by the name of the decision."""
        self.require_valid(arch)
        flags = self.layout.active(arch.picks)
        return {
            decision.name: decision.options[pick]
            for decision, pick, flag in zip(self.decisions, arch.picks, flags, strict=True)
            if flag
        }

    def parts(self, arch: Architecture, name: str) -> list[dict[str, Any]]:
        """For the parts that `repeated` made: `choices` of each that matters, without the name of the part."""
        chosen, parts = self.choices(arch), []
        if f"{name}_count" in chosen:
            count = int(chosen[f"{name}_count"])
        else:
            heads = {key.partition(".")[0] for key in chosen}
            count = sum(head.removeprefix(name).isdigit() for head in heads if head.startswith(name))
        for index in range(count):
            start = f"{name}{index}."
            parts.append({key.removeprefix(start): option for key, option in chosen.items() if key.startswith(start)})
        return parts

    def inner(self, arch: Architecture, name: str) -> Architecture:
        """The architecture of the inner space called `name`.

        Raises:
            UserError: There is no such part, or it does not matter in this architecture.
        """
        self.require_valid(arch)
        names = [part.name for part in self.layout.parts]
        if name not in names:
            raise unknown("part", name, names, where=f"of space {self.name!r}")
        part = self.layout.parts[names.index(name)]
        if not self.layout.holds(part.conditions, self.layout.active(arch.picks), arch.picks):
            raise UserError(f"part {name!r} of space {self.name!r} does not matter in {self.format(arch)}.")
        return Architecture(part.space.name, arch.picks[part.start : part.stop])

    def sample(self, rng: np.random.Generator, max_tries: int = MAX_TRIES) -> Architecture:
        """A valid architecture, uniform over the picks.

        Raises:
            NoValidArchitecture: None of `max_tries` draws was valid.
        """
        for _ in range(max_tries):
            picks = rng.integers(self._sizes).tolist()
            for part in self.layout.parts:
                picks[part.start : part.stop] = part.space.sample(rng, max_tries).picks
            arch = Architecture(self.name, tuple(picks))
            if self.is_valid(arch):
                return arch
        raise NoValidArchitecture(
            f"space {self.name!r} gave no valid architecture in {max_tries} draws; loosen its is_valid()."
        )

    @cached_property
    def _free(self) -> list[int]:
        """The decisions that have something to choose."""
        return [position for position, size in enumerate(self.layout.sizes) if size > 1]

    def _changeable(self, picks: Sequence[int]) -> list[int]:
        """The decisions that have something to choose and matter."""
        if not self.layout.conditional:
            return self._free
        flags = self.layout.active(picks)
        return [position for position in self._free if flags[position]]

    def mutate(self, arch: Architecture, rng: np.random.Generator, max_tries: int = MAX_TRIES) -> Architecture:
        """A valid architecture in which exactly one decision, uniform over those that matter, takes another option."""
        positions = self._changeable(arch.picks)
        if not positions:
            raise NoValidArchitecture(f"space {self.name!r} has a single architecture; there is nothing to mutate.")
        for _ in range(max_tries):
            position = positions[int(rng.integers(len(positions)))]
            pick = int(rng.integers(self.layout.sizes[position] - 1))
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
        """Every valid architecture that differs from `arch` in one decision that matters, in a fixed order."""
        for position in self._changeable(arch.picks):
            for pick in range(self.layout.sizes[position]):
                if pick != arch.picks[position]:
                    neighbor = Architecture(self.name, (*arch.picks[:position], pick, *arch.picks[position + 1 :]))
                    if self.is_valid(neighbor):
                        yield neighbor

    def one_hot(self, archs: Sequence[Architecture]) -> npt.NDArray[np.float64]:
        """An (n, d) array of zeros and ones: one column for every option of every decision.

        The columns of a decision that does not matter are all zero.
        """
        picks = np.array([arch.picks for arch in archs], dtype=np.int64).reshape(len(archs), len(self.decisions))
        starts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]]).astype(np.int64)
        encoded = np.zeros((len(archs), int(self._sizes.sum())))
        np.put_along_axis(encoded, picks + starts, self.layout.active_many(picks).astype(np.float64), axis=1)
        return encoded

    def encode(self, archs: Sequence[Architecture]) -> npt.NDArray[np.float64]:
        """(n, d) numbers that predictors read: all the columns of `feature_groups`."""
        return np.hstack(self.feature_groups(archs))

    def feature_groups(self, archs: Sequence[Architecture]) -> tuple[npt.NDArray[np.float64], ...]:
        """The features by kind: `one_hot`, `option_counts` and `graph_features`, without empty ones.

        A model of distances gives each kind a scale of its own.
        """
        further_groups = (self.option_counts(archs), self.graph_features(archs))
        return (self.one_hot(archs), *(group for group in further_groups if group.shape[1]))

    def option_counts(self, archs: Sequence[Architecture]) -> npt.NDArray[np.float64]:
        """(n, c) how often each option is chosen, over all decisions that matter and have these same options.

        Options of a decision that has no like are left out.
        """
        counts: npt.NDArray[np.float64] = self.one_hot(archs) @ self._pooling
        return counts

    @cached_property
    def _pooling(self) -> npt.NDArray[np.float64]:
        """The columns of `one_hot` that each of the `option_counts` adds up."""
        alike: dict[str, list[int]] = {}  # the options, as text, and the decisions that have them
        for position, decision in enumerate(self.decisions):
            alike.setdefault(repr(decision.options), []).append(position)
        starts = np.cumsum([0, *self._sizes])
        blocks = [np.zeros((starts[-1], 0))]
        for positions in alike.values():
            if len(positions) > 1:
                size = int(self._sizes[positions[0]])
                blocks.append(np.zeros((starts[-1], size)))
                for position in positions:
                    blocks[-1][starts[position] : starts[position] + size] = np.eye(size)
        return np.hstack(blocks)

    def graph_features(self, archs: Sequence[Architecture]) -> npt.NDArray[np.float64]:
        """(n, k) numbers that say what the networks compute, such as counts of paths; equal for equal networks.

        Here those of the inner spaces, zeros where such a part does not matter; k is 0 if there are none.
        """
        picks = np.array([arch.picks for arch in archs], dtype=np.int64).reshape(len(archs), len(self.decisions))
        flags = self.layout.active_many(picks)
        columns = [np.zeros((len(archs), 0))]
        for part in self.layout.parts:
            matters = [
                row
                for row, arch in enumerate(archs)
                if self.layout.holds(part.conditions, flags[row].tolist(), arch.picks)
            ]
            within = [Architecture(part.space.name, archs[row].picks[part.start : part.stop]) for row in matters]
            part_features = part.space.graph_features(within)
            columns.append(np.zeros((len(archs), part_features.shape[1])))
            columns[-1][matters] = part_features
        return np.hstack(columns)

    def path_graphs(self, archs: Sequence[Architecture]) -> tuple[PathGraphs, ...]:
        """The cells of the networks as graphs, one `PathGraphs` for each kind of cell; none in spaces without cells."""
        return ()

    def graf_features(self, archs: Sequence[Architecture]) -> npt.NDArray[np.float64]:
        """(n, k) graph features of the cells (arXiv 2404.16551), see `search_spaces.graf`; k is 0 without cells."""
        return np.hstack([np.zeros((len(archs), 0)), *map(graf_features, self.path_graphs(archs))])

    def count_distinct(self, on_progress: Callable[[int, int], None] | None = None) -> int:
        """Number of distinct networks: different results of `canonical`, by going through all architectures.

        Args:
            on_progress: Called now and then with the number of architectures seen and of all.

        Raises:
            UserError: The space is too large for that.
        """
        total = math.prod(self.layout.sizes)
        if total > COUNTABLE:
            raise UserError(
                f"space {self.name!r} has {total:.3g} combinations, and more than {COUNTABLE:,} are not counted one "
                f"by one; its size without merging equal networks is {self.size:,}."
            )
        networks = set()
        for seen, picks in enumerate(itertools.product(*(range(size) for size in self.layout.sizes)), start=1):
            arch = Architecture(self.name, picks)
            if self.is_valid(arch):
                networks.add(self.canonical(arch))
            if on_progress is not None and (seen % 1024 == 0 or seen == total):
                on_progress(seen, total)
        return len(networks)


class SearchSpace(DecisionSpace, ABC):
    """A finite set of networks. A subclass also defines `build`.

    Attributes:
        images_to_vectors: Whether `build` serves no other tasks than those of one image and one vector, so that others
            are refused before a search.
    """

    images_to_vectors: ClassVar[bool] = False

    @abstractmethod
    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """A new network with fresh weights, from `task.inputs` to `task.outputs`.

        For one image and k classes that is (n, *task.input_shape) float32 -> (n, task.classes) logits.
        """

    def diagram(self, arch: Architecture, task: Task) -> tuple[Graph, ...]:
        """The drawing of the architecture; here the chain of the network's direct parts."""
        return (network_chain("network", self.build(arch, task), task),)


def _read_option(decision: Decision, text: str) -> int:
    """The index of the longest option that `text` begins with."""
    options = [decision.text(index) for index in range(len(decision.options))]
    fits = [index for index, option in enumerate(options) if text.startswith(option)]
    if not fits:
        raise unknown("option", text.split(",")[0], options, where=f"of decision {decision.name!r}")
    return max(fits, key=lambda index: len(options[index]))
