"""Whether anything in the space meets the hard limits, found before hours are spent on candidates that are refused."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nasbench.evaluators.costs import LATENCY, ON_PAPER, paper_costs
from nasbench.latency.calibration import NetworkPredictor
from nasbench.objectives.metrics import FOOTPRINT, Metrics
from nasbench.objectives.objective import Objective
from nasbench.objectives.reward import broken_limit
from nasbench_registry import UserError
from search_spaces import Architecture, NoValidArchitecture, SearchSpace, Task
from search_spaces.fresh_model import fresh_model

SAMPLES = 16  # drawn at random before the descent
STEPS = 32  # of the descent, however slow a network is to cost
PARENTS, CHILDREN = 5, 24  # of each step: so many of the closest have so many mutations each


@dataclass(frozen=True)
class Feasible:
    """An architecture that meets every limit that is known before training.

    Attributes:
        arch: Architecture that was found.
        costs: Costs of the architecture.
        looked_at: Number of architectures that were looked at until it was found, itself included.
    """

    arch: Architecture
    costs: Metrics
    looked_at: int


def checked_limits(objectives: Sequence[Objective], *, latency: bool) -> list[Objective]:
    """The objectives with a hard limit on a cost that is known before training.

    Args:
        objectives: Objectives of the experiment.
        latency: Whether latency can be predicted.
    """
    metrics = ON_PAPER + (LATENCY if latency else ())
    return [objective for objective in objectives if objective.limit is not None and objective.metric in metrics]


def check_feasible(
    space: SearchSpace,
    task: Task,
    objectives: Sequence[Objective],
    predictor: NetworkPredictor | None,
    *,
    seed: int,
    batch: int = 1,
    budget_s: float = 8.0,
) -> Feasible | None:
    """Look for an architecture that meets every hard limit on a cost known before training.

    The first random architecture usually does. If none of `SAMPLES` does, the search descends until the budget is
    over: of many mutations of the closest ones it looks at the one that a linear model of the costs so far holds to be
    closest. So a rare region is found that random draws would miss. A network that cannot be built is passed over.

    Args:
        space: Search space to look in.
        task: Task that the networks are built for.
        objectives: Objectives with their limits; those known only after training are passed over.
        predictor: Predictor of latency; None passes over limits on latency and throughput.
        seed: Random seed of the architectures that are looked at; only the end of the descent depends on the clock.
        batch: Images in one inference of the device whose latency is predicted.
        budget_s: Seconds of descent, unless `STEPS` steps take longer.

    Returns:
        An architecture within the limits; None if there is no such limit, or no network could be built at all.

    Raises:
        UserError: No architecture was found; the message has the closest values.
    """
    limits = checked_limits(objectives, latency=predictor is not None)
    if not limits:
        return None
    peak = any(objective.metric == "peak_memory_bytes" for objective in limits)
    micro = any(objective.metric in FOOTPRINT for objective in limits)

    def known_costs(arch: Architecture) -> Metrics:
        model = fresh_model(space, arch, task, seed)
        return paper_costs(model, task, predictor, arch=arch, batch=batch, peak=peak, micro=micro)

    hunt = _Hunt(space, limits, known_costs, np.random.default_rng(seed))
    feasible = hunt.sample() or hunt.descend(budget_s)
    if feasible is None and hunt.costs:
        raise UserError(_nothing_found(space.name, limits, hunt))
    return feasible


@dataclass
class _Hunt:
    """Looks at architectures one by one and remembers how close each came."""

    space: SearchSpace
    limits: Sequence[Objective]
    known_costs: Callable[[Architecture], Metrics]
    rng: np.random.Generator
    seen: set[Architecture] = field(default_factory=set)  # canonical ones
    archs: list[Architecture] = field(default_factory=list)  # those that could be built
    costs: list[Metrics] = field(default_factory=list)  # of each of them

    def sample(self) -> Feasible | None:
        """Look at random architectures."""
        for _ in range(SAMPLES):
            feasible = self.look(self.space.sample(self.rng))
            if feasible:
                return feasible
        return None

    def descend(self, budget_s: float) -> Feasible | None:
        """Look at the mutation that should come closest, again and again."""
        end, steps = time.monotonic() + budget_s, 0
        while time.monotonic() < end or steps < STEPS:
            children = self.children() if self.archs else {self.space.sample(self.rng): None}
            fresh = [child for child in children if self.space.canonical(child) not in self.seen]
            if not fresh:
                return None  # all that can be reached is known
            # A model of few architectures errs, so one step in five is not its choice.
            guided = self.archs and self.rng.random() >= 0.2
            index = int(self.predicted(fresh).argmin()) if guided else int(self.rng.integers(len(fresh)))
            feasible = self.look(fresh[index])
            if feasible:
                return feasible
            steps += 1
        return None

    def look(self, arch: Architecture) -> Feasible | None:
        """The architecture with its costs, if it is a new one that meets all limits."""
        key = self.space.canonical(arch)
        if key in self.seen:
            return None
        self.seen.add(key)
        try:
            costs = self.known_costs(arch)
        except Exception:  # a network that cannot be built is an outcome of the search, not the end of it
            return None
        self.archs.append(arch)
        self.costs.append(costs)
        return Feasible(arch, costs, len(self.seen)) if broken_limit(self.limits, costs) is None else None

    def children(self) -> dict[Architecture, None]:
        """Architectures one to three mutations away from the closest ones, and random ones."""
        children = {self.space.sample(self.rng): None for _ in range(CHILDREN)}
        for parent in np.argsort(_distance(self.limits, self.logs()), kind="stable")[:PARENTS]:
            for number in range(CHILDREN):
                child = self.archs[parent]
                for _ in range(1 + number % 3):
                    with contextlib.suppress(NoValidArchitecture):
                        child = self.space.mutate(child, self.rng)
                children[child] = None
        return children

    def predicted(self, archs: list[Architecture]) -> npt.NDArray[np.float64]:
        """How far each is likely to be from the limits: logarithms of costs are nearly sums over the decisions."""
        encoded, logs = self.space.encode(self.archs), self.logs()
        middle, features = logs.mean(axis=0), encoded.mean(axis=0)
        gram = (encoded - features).T @ (encoded - features) + 0.1 * np.eye(encoded.shape[1])
        weights = np.linalg.solve(gram, (encoded - features).T @ (logs - middle))
        return _distance(self.limits, (self.space.encode(archs) - features) @ weights + middle)

    def logs(self) -> npt.NDArray[np.float64]:
        """(architectures, limits) logarithms of the costs that are limited."""
        return _logs([[costs[objective.metric] for objective in self.limits] for costs in self.costs])

    def nearest(self) -> Metrics:
        """The costs of the architecture that is closest to all limits."""
        return self.costs[int(_distance(self.limits, self.logs()).argmin())]


def _logs(values: Sequence[object]) -> npt.NDArray[np.float64]:
    logs: npt.NDArray[np.float64] = np.log(np.maximum(np.array(values, dtype=np.float64), 1e-12))
    return logs


def _distance(limits: Sequence[Objective], logs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n,) how far costs are beyond the limits: the sum of the logarithms of the ratios, which have no unit."""
    signs = np.array([1.0 if objective.goal == "min" else -1.0 for objective in limits])
    beyond = np.maximum(0.0, signs * (logs - _logs([objective.limit for objective in limits])))
    total: npt.NDArray[np.float64] = beyond.sum(axis=1)
    return total


def _nothing_found(space: str, limits: Sequence[Objective], hunt: _Hunt) -> str:
    limit_text = " and ".join(
        f"{objective.metric} {_sign(objective)} {_number(objective.limit)}" for objective in limits
    )
    nearest = hunt.nearest()
    closest = " and ".join(f"{objective.metric} {_number(nearest[objective.metric])}" for objective in limits)
    never = [
        objective.metric
        for objective in limits
        if not any(broken_limit([objective], costs) is None for costs in hunt.costs)
    ]
    if 0 < len(never) < len(limits):
        closest += f", and none met the limit of {', '.join(never)} alone"
    return (
        f"no architecture of space {space!r} with {limit_text} was found among {len(hunt.seen):,} that were drawn at "
        f"random and then bred towards the limits; the closest has {closest}. Loosen the limits in objectives, or "
        f"change the options of the space; nasbench profile EXPERIMENT.yaml shows what its networks cost."
    )


def _sign(objective: Objective) -> str:
    return "<=" if objective.goal == "min" else ">="


def _number(value: float | None) -> str:
    assert value is not None
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1e4 else f"{value:.4g}"
