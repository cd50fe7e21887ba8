"""Which networks of a supernet are trained in one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from nasbench_registry import one_of
from search_spaces import Architecture, SearchSpace
from search_spaces.core import MAX_TRIES, NoValidArchitecture


class Sampling(ABC):
    """Draws the architectures of a step.

    Attributes:
        distils: Whether the networks after the first learn from the outputs of the first, and from nothing else.
    """

    distils: ClassVar[bool] = False

    @abstractmethod
    def draw(
        self, space: SearchSpace, smallest: Architecture, largest: Architecture, rng: np.random.Generator
    ) -> Sequence[Architecture]:
        """The architectures whose gradients are added up for one update of the weights.

        Args:
            space: Search space of the architectures.
            smallest: Smallest network of the space.
            largest: Largest network of the space.
            rng: Random generator of every random choice.
        """


class Sandwich(Sampling):
    """The largest network, the smallest one, and two others; the others learn from the largest.

    Yu et al., BigNAS, ECCV 2020, arXiv:2003.11142; the in-place distillation is that of AttentiveNAS (Wang et al., CVPR
    2021, arXiv:2011.09011).
    """

    distils: ClassVar[bool] = True
    between: ClassVar[int] = 2

    def draw(
        self, space: SearchSpace, smallest: Architecture, largest: Architecture, rng: np.random.Generator
    ) -> Sequence[Architecture]:
        """See `Sampling.draw`."""
        return [largest, smallest, *(space.sample(rng) for _ in range(self.between))]


class Uniform(Sampling):
    """A single network, uniform over the picks: Guo et al., Single Path One-Shot, ECCV 2020, arXiv:1904.00420."""

    def draw(
        self, space: SearchSpace, smallest: Architecture, largest: Architecture, rng: np.random.Generator
    ) -> Sequence[Architecture]:
        """See `Sampling.draw`."""
        return [space.sample(rng)]


class Fair(Sampling):
    """As many networks as a decision has options, in which each of its options occurs once.

    Strict fairness of Chu et al., FairNAS, ICCV 2021, arXiv:1907.01845. Where decisions have fewer options than the
    largest, each of theirs occurs as often as the others, or once more.
    """

    def draw(
        self, space: SearchSpace, smallest: Architecture, largest: Architecture, rng: np.random.Generator
    ) -> Sequence[Architecture]:
        """See `Sampling.draw`.

        Raises:
            NoValidArchitecture: No combination was valid; the space forbids too many.
        """
        sizes = space.layout.sizes
        count = max(sizes)
        for _ in range(MAX_TRIES):
            columns = [
                np.concatenate([rng.permutation(size) for _ in range(-(-count // size))])[:count] for size in sizes
            ]
            rows = [Architecture(space.name, tuple(map(int, picks))) for picks in np.stack(columns, axis=1)]
            if all(map(space.is_valid, rows)):
                return rows
        raise NoValidArchitecture(
            f"space {space.name!r} gave no {count} valid architectures that have each option once in {MAX_TRIES} "
            f"draws; take sampling 'uniform'."
        )


SAMPLINGS: dict[str, type[Sampling]] = {"sandwich": Sandwich, "uniform": Uniform, "fair": Fair}


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
        best = start
        for _ in range(2):  # a decision may matter only after a later one has changed
            for position, options in enumerate(space.layout.sizes):
                variants = (
                    Architecture(space.name, (*best.picks[:position], pick, *best.picks[position + 1 :]))
                    for pick in range(options)
                )
                best = better([best, *filter(space.is_valid, variants)], key=size)
        results.append(best)
    return results[0], results[1]
