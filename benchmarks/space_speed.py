"""How many architectures a second a space can draw, change and encode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nasbench_compression.timing import take_turns, wall_seconds
from search_spaces import Architecture, SearchSpace

OPERATIONS = ("sample", "mutate", "crossover", "canonical", "one_hot", "format", "parse")


@dataclass(frozen=True)
class SpaceSpeed:
    """Architectures a second of each operation, the median of several rounds.

    Attributes:
        space: Name of the space.
        per_second: Architectures a second, by the names in `OPERATIONS`.
        sample_and_encode_s: Seconds to sample `archs` architectures and one-hot encode them, in one go.
        archs: Number of architectures sampled and encoded in one go.
        rounds: Number of rounds of each operation.
    """

    space: str
    per_second: dict[str, float]
    sample_and_encode_s: float
    archs: int
    rounds: int


def space_speed(space: SearchSpace, *, archs: int = 100_000, rounds: int = 5, seed: int = 0) -> SpaceSpeed:
    """Time the operations of a space on one thread.

    Args:
        space: Space whose operations are timed.
        archs: Number of architectures sampled and encoded at once; each round of the other operations takes a tenth.
        rounds: Number of times that each operation is timed.
        seed: Random seed of the samples.
    """
    rng = np.random.default_rng(seed)
    sampled: list[Architecture] = []

    def sample_and_encode() -> None:
        sampled.extend(space.sample(rng) for _ in range(archs))
        space.one_hot(sampled)

    together = wall_seconds(sample_and_encode)
    timed_archs = sampled[: max(2, archs // 10)]
    texts = [space.format(arch) for arch in timed_archs]
    work: dict[str, Callable[[], object]] = {
        "sample": lambda: [space.sample(rng) for _ in timed_archs],
        "mutate": lambda: [space.mutate(arch, rng) for arch in timed_archs],
        "crossover": lambda: [
            space.crossover(a, b, rng) for a, b in zip(timed_archs, reversed(timed_archs), strict=True)
        ],
        "canonical": lambda: [space.canonical(arch) for arch in timed_archs],
        "one_hot": lambda: space.one_hot(timed_archs),
        "format": lambda: [space.format(arch) for arch in timed_archs],
        "parse": lambda: [space.parse(text) for text in texts],
    }
    turns = take_turns(list(work.values()), lambda turns, spent_s: len(turns[0]) >= rounds, cold=False)
    rates = {name: len(timed_archs) / float(np.median(times)) for name, times in zip(work, turns, strict=True)}
    return SpaceSpeed(space.name, rates, together, archs, rounds)
