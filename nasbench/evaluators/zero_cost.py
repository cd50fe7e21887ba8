"""Score a candidate by what its untrained network says of itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

from nasbench.evaluators.candidate import Candidate
from nasbench.evaluators.costs import paper_costs
from nasbench.evaluators.evaluator import BLOCK, Evaluator, attempt
from nasbench.evaluators.proxies import IMAGES, PROXIES, probe_of, scores
from nasbench.objectives.metrics import Metrics
from nasbench.problems.problem import Problem
from nasbench_registry import UserError, one_of
from search_spaces import SearchSpace

COSTS = ("macs", "params", "size_bytes")


class ZeroCost(Evaluator):
    """Zero-cost proxies of the untrained network, and its costs on paper.

    Args:
        space: Search space that candidates belong to.
        problem: Problem whose training inputs the proxies look at.
        proxies: Names of the proxies; each is a metric, larger is better.
        images: Largest number of images that the proxies look at.
    """

    summary = "zero-cost proxies of the untrained network"

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem | None,
        *,
        proxies: Sequence[str] = ("synflow",),
        images: int = IMAGES,
    ) -> None:
        if problem is None:
            raise UserError("evaluator 'zero_cost' looks at training inputs; give the section data.")
        super().__init__(space, problem.task)
        if isinstance(proxies, str):
            raise UserError(f"proxies is {proxies!r}; give a list, such as [{proxies}].")
        self.proxies = tuple(one_of("zero-cost proxy", name, PROXIES) for name in proxies)
        if images < 2:
            raise UserError(f"images is {images}, and zero-cost proxies compare images; give two or more.")
        self._problem, self._images = problem, images

    @property
    def metrics(self) -> tuple[str, ...]:
        """The proxies, then macs, params, size_bytes and proxy_seconds; each once."""
        return tuple(dict.fromkeys((*self.proxies, *COSTS, "proxy_seconds")))

    @property
    def at_once(self) -> int:
        """Several: under Ray a proxy costs less than Ray Tune takes for a candidate."""
        return BLOCK

    def evaluate_many(self, candidates: Sequence[Candidate]) -> Sequence[Metrics | Exception]:
        """One after the other: a batch of different networks saves nothing."""
        return [attempt(self, candidate) for candidate in candidates]

    def __call__(self, candidate: Candidate) -> Metrics:
        """Build the network and look at it."""
        network = candidate.network()
        if self.task is None:
            raise UserError("evaluator 'zero_cost' needs a task.")
        costs = paper_costs(network, self.task)
        started = time.perf_counter()
        values = scores(self.proxies, probe_of(network, self._problem, self._images, seed=candidate.seed))
        return values | costs | {"proxy_seconds": time.perf_counter() - started}
