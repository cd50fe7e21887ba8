"""Which networks of a supernet are trained in one step."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nasbench.supernet.elastic_space import KEPT, LEFT_OUT
from nasbench_registry import one_of
from search_spaces import Architecture, Decision, SearchSpace
from search_spaces.core import MAX_TRIES, NoValidArchitecture


@dataclass(frozen=True)
class TrainingStep:
    """What the networks of a step are drawn from.

    Attributes:
        space: Search space of the architectures.
        smallest: Smallest network of the space.
        largest: Largest network of the space.
        rng: Random generator of every random choice.
        progress: Share of the training that is done, from 0 to 1.
    """

    space: SearchSpace
    smallest: Architecture
    largest: Architecture
    rng: np.random.Generator
    progress: float = 0.0


class Sampling(ABC):
    """Draws the architectures of a step.

    Attributes:
        distils: Whether the networks after the first learn from the outputs of the first, and from nothing else.
    """

    distils: ClassVar[bool] = False

    @abstractmethod
    def draw(self, step: TrainingStep) -> Sequence[Architecture]:
        """The architectures whose gradients are added up for one update of the weights."""


class Sandwich(Sampling):
    """The largest network, the smallest one, and two others; the others learn from the largest.

    Yu et al., BigNAS, ECCV 2020, arXiv:2003.11142; the in-place distillation is that of AttentiveNAS (Wang et al., CVPR
    2021, arXiv:2011.09011).
    """

    distils: ClassVar[bool] = True
    between: ClassVar[int] = 2

    def draw(self, step: TrainingStep) -> Sequence[Architecture]:
        """See `Sampling.draw`."""
        return [step.largest, step.smallest, *(step.space.sample(step.rng) for _ in range(self.between))]


class Uniform(Sampling):
    """A single network, uniform over the picks: Guo et al., Single Path One-Shot, ECCV 2020, arXiv:1904.00420."""

    def draw(self, step: TrainingStep) -> Sequence[Architecture]:
        """See `Sampling.draw`."""
        return [step.space.sample(step.rng)]


class Fair(Sampling):
    """As many networks as a decision has options, in which each of its options occurs once.

    Strict fairness of Chu et al., FairNAS, ICCV 2021, arXiv:1907.01845. Where decisions have fewer options than the
    largest, each of theirs occurs as often as the others, or once more.
    """

    def draw(self, step: TrainingStep) -> Sequence[Architecture]:
        """See `Sampling.draw`.

        Raises:
            NoValidArchitecture: No combination was valid; the space forbids too many.
        """
        space, sizes = step.space, step.space.layout.sizes
        count = max(sizes)
        for _ in range(MAX_TRIES):
            columns = [
                np.concatenate([step.rng.permutation(size) for _ in range(-(-count // size))])[:count] for size in sizes
            ]
            rows = [Architecture(space.name, tuple(map(int, picks))) for picks in np.stack(columns, axis=1)]
            if all(map(space.is_valid, rows)):
                return rows
        raise NoValidArchitecture(
            f"space {space.name!r} gave no {count} valid architectures that have each option once in {MAX_TRIES} "
            f"draws; take sampling 'uniform'."
        )


class Progressive(Sampling):
    """The largest network, and others whose decisions become free one kind after the other.

    Progressive shrinking of Cai et al., Once-for-All, ICLR 2020, arXiv:1908.09791. The training has as many parts of
    the same length as there are kinds of decisions, and one before them, in which only the largest network is trained
    (and resolutions are free). Then kernels become free, then depths, then the rest, which are widths, expansions and
    heads; within its part, a decision begins with the option of the largest network, and the next smaller ones are
    added one by one.

    Deviation from the paper: the teacher is the largest network as it is now, which is trained in each step, and not
    one that was trained before; learning rates do not begin again with each part.
    """

    distils: ClassVar[bool] = True
    others: ClassVar[int] = 2
    kinds: ClassVar[tuple[tuple[str, ...], ...]] = (("kernel",), ("depth", "count"))
    depth: ClassVar[int] = 1

    def draw(self, step: TrainingStep) -> Sequence[Architecture]:
        """See `Sampling.draw`."""
        free = self.free_options(step)
        if all(len(picks) == 1 for picks in free):
            return [step.largest]
        return [step.largest, *(self._drawn(step, free) for _ in range(self.others))]

    def free_options(self, step: TrainingStep) -> list[list[int]]:
        """The options of each decision that a network may have at this point of the training, the largest one first."""
        largest, smallest = step.largest.picks, step.smallest.picks
        kinds = [self._kind(decision) for decision in step.space.decisions]
        parts = sorted({kind for kind in kinds if kind >= 0})
        position = step.progress * (1 + len(parts)) - 1  # below 0: the part of the largest network
        free = []
        for kind, size, most, least in zip(kinds, step.space.layout.sizes, largest, smallest, strict=True):
            inwards = 1 if least >= most else -1
            options = sorted(range(size), key=lambda pick: ((pick - most) * inwards < 0, abs(pick - most)))
            share = 1.0 if kind < 0 else min(1.0, max(0.0, position - parts.index(kind)))
            free.append(options[: 1 + math.ceil(share * (size - 1))])
        return free

    def _kind(self, decision: Decision) -> int:
        """The number of the part in which a decision becomes free; -1 if it always is."""
        if set(decision.options) == {LEFT_OUT, KEPT}:  # a block of an elastic network
            return self.depth
        words = set(re.split("[^a-z]+", decision.name))
        if "resolution" in words:
            return -1
        return next((place for place, kind in enumerate(self.kinds) if words & set(kind)), len(self.kinds))

    @staticmethod
    def _drawn(step: TrainingStep, free: Sequence[Sequence[int]]) -> Architecture:
        for _ in range(MAX_TRIES):
            arch = Architecture(step.space.name, tuple(int(step.rng.choice(picks)) for picks in free))
            if step.space.is_valid(arch):
                return arch
        return step.largest


SAMPLINGS: dict[str, type[Sampling]] = {
    "sandwich": Sandwich,
    "uniform": Uniform,
    "fair": Fair,
    "progressive": Progressive,
}


def get_sampling(name: str) -> Sampling:
    """A sampling by its name; UserError if there is none."""
    return SAMPLINGS[one_of("sampling", name, SAMPLINGS)]()


def extremes(
    space: SearchSpace, size: Callable[[Architecture], float], rng: np.random.Generator
) -> tuple[Architecture, Architecture]:
    """The smallest and the largest architecture, as far as changing one decision after the other leads to them.

    Args:
        space: Search space of the architectures.
        size: Size of the network of an architecture, such as its parameters.
        rng: Random generator of the architecture to begin with.
    """
    start = space.sample(rng)
    results = []
    for better in (min, max):
        best: Architecture = start
        before: Architecture | None = None
        while best != before:  # a decision may matter, or may change, only after a later one has changed
            before = best
            for position, options in enumerate(space.layout.sizes):
                variants = (
                    Architecture(space.name, (*best.picks[:position], pick, *best.picks[position + 1 :]))
                    for pick in range(options)
                )
                best = better([best, *filter(space.is_valid, variants)], key=size)
        results.append(best)
    return results[0], results[1]
