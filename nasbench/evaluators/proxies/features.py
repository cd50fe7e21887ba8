"""Zero-cost proxies as features of architectures, for controllers with a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from nasbench.evaluators.proxies.registry import UNDEFINED, architecture_scores
from nasbench.problems.problem import Problem
from nasbench_registry import UserError
from search_spaces import Architecture, SearchSpace

Array = npt.NDArray[np.float64]


def proxy_features(
    space: SearchSpace,
    problem: Problem,
    proxies: Sequence[str] = ("jacov", "params"),
    *,
    images: int = 64,
    seed: int = 0,
) -> Callable[[Sequence[Architecture]], Array]:
    """A function that gives the proxies of architectures, for `features` of a controller.

    Proxies as features of a predictor: White et al. 2021, arXiv 2104.01177.

    Scores of different proxies differ by many orders of magnitude, so each becomes the logarithm of one plus its size,
    with its sign. Where a proxy is no finite number it is 0, and a last column counts these. A network is built and
    scored once.

    Args:
        space: Search space of the architectures.
        problem: Problem whose inputs and targets the proxies look at.
        proxies: Names of the proxies.
        images: Number of images that a proxy looks at.
        seed: Random seed of the weights.

    Returns:
        A function of n architectures whose result has the shape (n, number of proxies + 1).

    Raises:
        UserError: No proxy is named; when it is called: a proxy does not exist or cannot look at these networks.
    """
    if not proxies:
        raise UserError("there is no proxy to compute; name one or more.")
    known: dict[Architecture, list[float]] = {}

    def of(arch: Architecture) -> list[float]:
        arch = space.canonical(arch)
        if arch not in known:
            values = architecture_scores(proxies, space, arch, problem, images, seed)
            known[arch] = [values[name] for name in proxies]
        return known[arch]

    def features(archs: Sequence[Architecture]) -> Array:
        rows = np.array([of(arch) for arch in archs], dtype=float)
        undefined = rows == UNDEFINED
        logarithms = np.where(undefined, 0.0, np.sign(rows) * np.log1p(np.abs(rows)))
        return np.hstack([logarithms, undefined.sum(axis=1, keepdims=True)])

    return features
