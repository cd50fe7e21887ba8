"""The proxies by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor, nn

from nasbench.evaluators.proxies.probe import IMAGES, Probe
from nasbench.problems.problem import Problem
from nasbench_registry import Entries, UserError, one_of
from search_spaces import Architecture, SearchSpace
from search_spaces.fresh_model import fresh_model

Proxy: TypeAlias = "Callable[[Probe], float]"

_FOLDER = "nasbench.evaluators.proxies"

PROXIES: Entries[Proxy] = Entries(
    {name: f"{_FOLDER}.{name}:{name}" for name in ("params", "macs", "l2_norm", "plain", "grad_norm", "snip", "grasp")}
    | {name: f"{_FOLDER}.{name}:{name}" for name in ("fisher", "synflow", "jacov", "naswot", "zen", "zico", "swap")}
    | {name: f"{_FOLDER}.{name}:{name}" for name in ("meco", "epe_nas")}
    | {name: f"{_FOLDER}.az_nas:{name}" for name in ("az_expressivity", "az_progressivity", "az_trainability")}
)

UNDEFINED = -1e12
"""The score of a network for which a proxy is no finite number: below all others."""


def scores(names: Sequence[str], probe: Probe) -> dict[str, float]:
    """The score of the network by each proxy; the proxies share their passes.

    Raises:
        UserError: There is no such proxy, or it cannot look at this network.
    """
    return {name: value for name, (value, _) in timed_scores(names, probe).items()}


def timed_scores(names: Sequence[str], probe: Probe) -> dict[str, tuple[float, float]]:
    """`scores`, each with the seconds that the proxy takes by itself."""
    results = {name: probe.timed(PROXIES[one_of("zero-cost proxy", name, PROXIES)]) for name in names}
    return {name: (value if math.isfinite(value) else UNDEFINED, spent) for name, (value, spent) in results.items()}


def probe_of(network: nn.Module, problem: Problem, images: int = IMAGES, *, seed: int = 0) -> Probe:
    """A network, looked at with training inputs and targets of a problem.

    Raises:
        UserError: Its networks take several inputs.
    """
    inputs = problem.examples(images)
    if not isinstance(inputs, Tensor):
        raise UserError(f"zero-cost proxies look at one tensor of inputs, and networks here take {len(inputs)}.")
    return Probe(network, inputs, problem.targets(len(inputs)), loss=problem.loss, seed=seed)


def architecture_scores(
    names: Sequence[str], space: SearchSpace, arch: Architecture, problem: Problem, images: int, seed: int
) -> dict[str, float]:
    """`scores` of the network of an architecture, with fresh weights of a seed."""
    network = fresh_model(space, arch, problem.task, seed)
    return scores(names, probe_of(network, problem, images, seed=seed))


def proxy(name: str, network: nn.Module, problem: Problem, *, seed: int = 0) -> float:
    """The score of a network by one proxy; see `scores`."""
    return scores([name], probe_of(network, problem, seed=seed))[name]
