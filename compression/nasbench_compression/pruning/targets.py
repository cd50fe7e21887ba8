"""What a network is to be cut to, and which cut comes nearest to it."""

from __future__ import annotations

import math
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
_MEASURED = 5  # cuts that an estimate proposes
_ESTIMATED = 16  # shares of which it is asked for each
_TRIES = 6  # shares that are measured where there is no estimate
_MISSED = 0.02  # of the target; beyond it a reason is due


@dataclass(frozen=True, kw_only=True)
class Target:
    """One of `TARGETS` with its value.

    Attributes:
        option: Name of the target.
        value: Share to be removed, or the largest quantity that may be left.
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
            UserError: The network is within the limit already.
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


def find_cut(pruning_round: Round, target: Target, goal: float, limit: float) -> Chosen:
    """The positions of each group of a round that go, so that it comes nearest to its goal.

    Groups that turn out to be wrong then are left out of the round.

    Args:
        pruning_round: Groups of the network, ranked.
        target: Target of the whole step.
        goal: Value that the quantity of `target` is to have after this round.
        limit: Value that the quantity of `target` is to have after the last round.

    Raises:
        UserError: The target is a limit that the network cannot keep.
    """
    share = min(max(1 - goal / max(pruning_round.channels, 1), 0.0), _SMALLEST)
    while pruning_round.groups:
        try:
            chosen = (
                pruning_round.choose(share)
                if target.kind == "channels"
                else _nearest(pruning_round, target, goal, limit)
            )
        except Unmeasured as error:
            if not pruning_round.drop_wrong(error.chosen):
                raise
            continue
        if not pruning_round.drop_wrong(chosen):
            return chosen
    return []


def _nearest(pruning_round: Round, target: Target, goal: float, limit: float) -> Chosen:
    measure = {"macs": pruning_round.macs, "params": pruning_round.params, "latency_ms": pruning_round.latency_ms}[
        target.kind
    ]
    if target.at_most:
        smallest = measure(pruning_round.choose(_SMALLEST))
        if smallest > limit:
            raise UserError(
                f"prune {target.option} is {target.value:g}, but {smallest:.6g} are left when every layer that can be "
                f"cut is as small as may be; raise it."
            )
    largest = _SMALLEST if target.at_most else _FLOOR
    estimates = {"macs": pruning_round.estimated_macs, "params": pruning_round.estimated_params}
    if target.kind in estimates:
        return _by_estimate(
            pruning_round, measure, estimates[target.kind], goal, at_most=target.at_most, largest=largest
        )
    share = search_share(
        lambda share: measure(pruning_round.choose(share)), goal, at_most=target.at_most, tries=_TRIES, largest=largest
    )
    return pruning_round.choose(share)  # its noise is larger than what single groups would gain


def _by_estimate(
    pruning_round: Round,
    measure: Callable[[Chosen], float],
    estimate: Callable[[Chosen], float],
    goal: float,
    *,
    at_most: bool,
    largest: float,
) -> Chosen:
    """The cut whose measured quantity is nearest to the goal, looked for by an estimate that measurements correct.

    A measurement runs and traces the network; an estimate multiplies the channels of its layers. What layers do not
    account for, such as the products of attention, is taken to go with them, and each measurement tells how much it is.
    """
    tried: list[tuple[float, Chosen]] = []
    scale = [1.0]

    def corrected(chosen: Chosen) -> float:
        return scale[-1] * estimate(chosen)

    for _ in range(_MEASURED):
        share = search_share(
            lambda share: corrected(pruning_round.choose(share)),
            goal,
            at_most=at_most,
            tries=_ESTIMATED,
            largest=largest,
        )
        chosen = _refined(pruning_round, pruning_round.choose(share), corrected, goal, at_most=at_most)
        if any(chosen == earlier for _, earlier in tried):
            break
        value = measure(chosen)
        tried.append((_distance(value, goal, at_most=at_most), chosen))
        if tried[-1][0] <= _CLOSE * goal:
            break
        scale.append(value / max(estimate(chosen), 1e-9))
    distance, chosen = min(tried, key=lambda pair: pair[0])
    return chosen if math.isfinite(distance) else pruning_round.choose(largest)


def _distance(value: float, goal: float, *, at_most: bool) -> float:
    return math.inf if at_most and value > goal else abs(value - goal)


def _refined(
    pruning_round: Round, chosen: Chosen, estimate: Callable[[Chosen], float], goal: float, *, at_most: bool
) -> Chosen:
    """Nearer to the goal by small changes in single groups, where whole layers at a time come not near enough."""
    nearest = _distance(estimate(chosen), goal, at_most=at_most)
    for _ in range(_REFINEMENTS):
        if nearest <= _CLOSE * goal:
            break
        neighbours = [
            (_distance(estimate(neighbour), goal, at_most=at_most), neighbour)
            for neighbour in pruning_round.beside(chosen)
        ]
        distance, neighbour = min(neighbours, key=lambda pair: pair[0], default=(math.inf, chosen))
        if distance >= nearest:
            break
        nearest, chosen = distance, neighbour
    return chosen


def search_share(
    measure: Callable[[float], float], goal: float, *, at_most: bool, tries: int, largest: float = _SMALLEST
) -> float:
    """The share of channels between 0 and `largest` with which a quantity comes nearest to its goal, by bisection.

    Args:
        measure: Gives the quantity that a share leaves; it falls with the share, as far as rounding allows.
        goal: Value that the quantity is to have.
        at_most: Whether the goal must not be exceeded.
        tries: Largest number of measurements.
        largest: Largest share that is allowed.

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
