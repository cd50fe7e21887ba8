"""What a network is to be cut to, and which cut comes nearest to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from nasbench_compression.macs import count_macs
from nasbench_compression.pruning.rounds import Chosen, Round, Unmeasured
from nasbench_compression.step import Context, count_parameters, device_of, given
from nasbench_registry import UserError

TARGETS = {
    "ratio": "channels",
    "macs_ratio": "macs",
    "max_macs": "macs",
    "max_params": "params",
    "max_latency_ms": "latency_ms",
}
"""Options that set a target, each with the quantity that it is about."""

_SMALLEST = 0.999  # a share of channels with which every group keeps as little as it may
_FLOOR = 0.9  # and the largest share for a target that is to come near, not to be kept: a tenth of each layer stays
_CLOSE = 0.002  # of the goal; good enough to stop
_REFINEMENTS = 3
_MEASURED = 4  # of the small changes that come nearest by an estimate
_TRIES = {"macs": 12, "params": 12, "latency_ms": 6}
_MISSED = 0.02  # of the target; beyond it a reason is due


@dataclass(frozen=True, kw_only=True)
class Target:
    """One of `TARGETS` with its value.

    Attributes:
        option: its name.
        value: a share that goes, or what is left at most.
    """

    option: str
    value: float

    @property
    def kind(self) -> str:
        """The quantity: channels, macs, params or latency_ms."""
        return TARGETS[self.option]

    @property
    def at_most(self) -> bool:
        """Whether the quantity must not be larger than what is asked for; it is to come near, if not."""
        return self.option.startswith("max_")

    def limit(self, start: float) -> float:
        """What is to be left of the quantity, which is `start` in the uncut network."""
        return self.value if self.at_most else start * (1 - self.value)

    def reached(self, before: float, after: float) -> float:
        """The quantity before and after in the terms of the option."""
        return after if self.at_most else 1 - after / before

    def missed(self, before: float, after: float) -> str | None:
        """Why what is left is more than 2 % beside what the target leaves; None if it is not."""
        limit = self.limit(before)
        if abs(after - limit) <= _MISSED * limit:
            return None
        floor = "" if self.at_most or self.kind == "channels" else ", of each of which about a tenth stays,"
        return (
            f"{after:.6g} {self.kind} are left, not {limit:.6g}: whole channels, equal blocks and round_to of the "
            f"layers that can be cut{floor} come no nearer"
        )

    def check(self, start: float) -> None:
        """Refuse a limit that the network keeps already.

        Raises:
            UserError: it does.
        """
        if self.at_most and start <= self.value:
            raise UserError(
                f"prune {self.option} is {self.value:g}, and the network has {start:.6g} already; lower it, or leave "
                f"the step out of the recipe."
            )


def quantity(kind: str, model: nn.Module, context: Context) -> float:
    """Multiply-adds of one image, parameters, or measured latency of a network."""
    if kind == "macs":
        return count_macs(model, context.example_inputs.to(device_of(model)))
    if kind == "params":
        return count_parameters(model)
    assert kind == "latency_ms", "there are no other kinds"
    return given(context.latency_ms)(model)


def find_cut(found: Round, target: Target, goal: float, limit: float) -> Chosen:
    """The positions of each group of a round that go, so that it comes nearest to its goal.

    Groups that turn out to be wrong then are left out of the round.

    Args:
        found: the round.
        target: of the whole step.
        goal: what the quantity of `target` is to be after this round.
        limit: and after the last one.

    Raises:
        UserError: the target is a limit that the network cannot keep.
    """
    share = min(max(1 - goal / max(found.channels, 1), 0.0), _SMALLEST)
    while found.groups:
        try:
            chosen = found.choose(share) if target.kind == "channels" else _nearest(found, target, goal, limit)
        except Unmeasured as error:
            if not found.drop_wrong(error.chosen):
                raise
            continue
        if not found.drop_wrong(chosen):
            return chosen
    return []


def _nearest(found: Round, target: Target, goal: float, limit: float) -> Chosen:
    measure = {"macs": found.macs, "params": found.params, "latency_ms": found.latency_ms}[target.kind]
    smallest = measure(found.choose(_SMALLEST))
    if target.at_most and smallest > limit:
        raise UserError(
            f"prune {target.option} is {target.value:g}, but {smallest:.6g} are left when every layer that can be cut "
            f"is as small as may be; raise it."
        )
    share = search_share(
        lambda share: measure(found.choose(share)),
        goal,
        at_most=target.at_most,
        tries=_TRIES[target.kind],
        largest=_SMALLEST if target.at_most else _FLOOR,
    )
    chosen: Chosen = found.choose(share)
    if target.kind == "latency_ms":
        return chosen  # its noise is larger than what is gained below
    estimate = found.estimated_macs if target.kind == "macs" else None
    return _refined(found, chosen, measure, estimate, goal, at_most=target.at_most)


def _refined(
    found: Round,
    chosen: Chosen,
    measure: Callable[[Chosen], float],
    estimate: Callable[[Chosen], float] | None,
    goal: float,
    *,
    at_most: bool,
) -> Chosen:
    """Nearer to the goal by small changes in single groups, where whole layers at a time come not near enough."""

    def distance(value: float) -> float:
        return float("inf") if at_most and value > goal else abs(value - goal)

    value = measure(chosen)
    for _ in range(_REFINEMENTS):
        if distance(value) <= _CLOSE * goal:
            break
        others = list(found.beside(chosen))
        if estimate is not None:  # a measurement takes a forward pass, and there are two others for each layer
            away = {id(other): value + estimate(other) - estimate(chosen) - goal for other in others}
            others.sort(key=lambda other: (at_most and away[id(other)] > 0, abs(away[id(other)])))
            others = others[:_MEASURED]
        tried = [(distance(now), index, now) for index, now in enumerate(map(measure, others))]
        if not tried or min(tried)[0] >= distance(value):
            break
        _, index, value = min(tried)
        chosen = others[index]
    return chosen


def search_share(
    measure: Callable[[float], float], goal: float, *, at_most: bool, tries: int, largest: float = _SMALLEST
) -> float:
    """The share of channels between 0 and `largest` with which a quantity comes nearest to its goal, by bisection.

    Args:
        measure: the quantity that such a share leaves; falls with the share, as far as rounding allows.
        goal: of the quantity.
        at_most: it must not be exceeded.
        tries: measurements at most.
        largest: share that is allowed.

    Returns:
        The share whose quantity is nearest; of those within the goal, with `at_most`, if there are any.
    """
    low, high = 0.0, largest
    tried: dict[float, float] = {}
    for _ in range(tries):
        share = (low + high) / 2
        tried[share] = measure(share)
        if abs(tried[share] - goal) <= _CLOSE * goal and (tried[share] <= goal or not at_most):
            return share
        if tried[share] > goal:
            low = share
        else:
            high = share
    within = {share: value for share, value in tried.items() if value <= goal} if at_most else tried
    return min(within, key=lambda share: abs(tried[share] - goal), default=largest)
