"""Where a search may begin: the best of a sample by what untrained networks say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nasbench.evaluators.proxies.aggregate import log_rank_sum
from nasbench.evaluators.proxies.registry import architecture_scores
from nasbench.problems.problem import Problem
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace


def best_by_proxies(
    space: SearchSpace,
    problem: Problem,
    proxies: Sequence[str] = ("jacov", "params"),
    *,
    sample: int = 200,
    best: int = 10,
    images: int = 64,
    seed: int = 0,
    on_progress: Callable[[int], object] = lambda done: None,
) -> list[Architecture]:
    """The best architectures of a sample by the sum of the logarithms of their ranks, the best first.

    For any controller: `start_with={"proxies": ["jacov", "params"]}` begins a search with them.

    Args:
        space: Search space to draw from.
        problem: Problem whose inputs and targets the proxies look at.
        proxies: Names of the proxies.
        sample: Number of architectures that are drawn; of those with the same network one is built and scored.
        best: Largest number of architectures that are returned.
        images: Number of images that a proxy looks at.
        seed: Random seed of the sample and of the weights.
        on_progress: Function that is called with the number of networks that are scored.

    Raises:
        UserError: A proxy does not exist or cannot look at these networks, or best is not from 1 to sample.
    """
    if not 1 <= best <= sample:
        raise UserError(f"best is {best} and sample {sample}; give a best from 1 to sample.")
    if not proxies:
        raise UserError("there is no proxy to rank by; name one or more.")
    rng = np.random.default_rng(seed)
    drawn = list(dict.fromkeys(space.canonical(space.sample(rng)) for _ in range(sample)))
    sample_scores = list[dict[str, float]]()
    for done, arch in enumerate(drawn, start=1):
        sample_scores.append(architecture_scores(proxies, space, arch, problem, images, seed))
        on_progress(done)
    total = log_rank_sum([[network_scores[name] for network_scores in sample_scores] for name in proxies])
    return [drawn[place] for place in np.argsort(-total, kind="stable")[:best].tolist()]
