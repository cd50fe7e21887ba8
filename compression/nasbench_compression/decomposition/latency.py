"""Ranks by measured latency: a layer is replaced only where the network gets faster by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from nasbench_compression.copying import copy_network
from nasbench_compression.decomposition.decomposable import DecomposableLayer
from nasbench_compression.decomposition.links import build
from nasbench_compression.decomposition.method import Method
from nasbench_compression.decomposition.ranks import Choice, by_share
from nasbench_compression.surgery import replace_module
from nasbench_registry import UserError

_GROUPS = 8  # kinds of layers that are tried, those with most multiply-adds
_BISECTIONS = 4
_MOST_SHARE = 0.75  # at which a kind of layer is tried


@dataclass(frozen=True)
class Measured:
    """Result of the search.

    Attributes:
        chosen: Ranks of each layer, or the reason why it is left alone.
        latency_ms: Latency of the network before and after, in milliseconds.
        measurements: Number of measurements that it took.
    """

    chosen: dict[str, Choice]
    latency_ms: tuple[float, float]
    measurements: int


class LatencySearch:
    """Looks for the most that can be kept of a network within a latency.

    Layers of the same shape on maps of the same size are one kind, tried together, and latency does not depend on
    weights, so nothing is decomposed here. Each kind is replaced by itself, with the share of its multiply-adds that
    the limit is of the latency: kinds that do not make the network faster are left alone, the others replaced
    together. If that is too slow, it starts again with a third of the share, and last with ranks of one. Then the
    largest share is bisected that is within the limit, at which each kind has to show once more that it pays. It takes
    one measurement, ten for each share that is tried, four for the bisection, and ten in the end, at most.

    Other work on the machine only ever slows a network down. So the network as it is is measured again with every
    round of kinds, and the least of its latencies counts; a kind that is faster than that pays, noise or not.

    Args:
        model: Network; it is not changed.
        method: Method of decomposition.
        candidates: Layers of the network that may be replaced.
        latency_ms: Function that measures the latency of a network, in milliseconds.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        candidates: Sequence[DecomposableLayer],
        latency_ms: Callable[[nn.Module], float],
    ) -> None:
        self.model, self.method, self.candidates = model, method, candidates
        self.measure = latency_ms
        self.measurements = 0
        self.before = math.inf  # the least latency of the network as it is, so far

    def run(self, limit_ms: float) -> Measured:
        """Search for ranks within the latency.

        Raises:
            UserError: The network cannot be made this fast.
        """
        before = self.before = self._latency({})
        if before <= limit_ms:
            reason = "the latency is within the limit as it is"
            return Measured({c.name: reason for c in self.candidates}, (before, before), self.measurements)
        groups, reasons = self._groups()
        most = min(limit_ms / before, _MOST_SHARE)
        least = before
        share, above = 0.0, 1.0
        for share in (most, most / 3, 0.0):
            paying, slow = self._paying(groups, share)
            chosen = self._choose(paying, share)
            after = self._latency(chosen) if paying else self.before
            least = min(least, after)
            if after <= limit_ms:
                break
            above = share
        else:
            raise UserError(
                f"decompose max_latency_ms is {limit_ms}, but {self.method.name} brings this network from "
                f"{self.before:.4g} ms to no less than {least:.4g}; raise it, or prune first."
            )
        larger = self._larger(paying, share, above, limit_ms)
        if larger is not None:
            chosen, still_slow, after = larger
            slow = slow | still_slow
        return Measured(reasons | slow | chosen, (self.before, after), self.measurements)

    def _groups(self) -> tuple[list[list[DecomposableLayer]], dict[str, Choice]]:
        """Layers by kind, those with most multiply-adds, and why the others are left alone."""
        kinds: dict[str, list[DecomposableLayer]] = {}
        for candidate in self.candidates:
            kinds.setdefault(f"{candidate.layer} {candidate.calls}", []).append(candidate)
        ordered = sorted(kinds.values(), key=lambda group: -sum(c.macs(self.method, None) for c in group))
        reason = f"the {_GROUPS} kinds of layers that were tried have more multiply-adds"
        return ordered[:_GROUPS], {c.name: reason for group in ordered[_GROUPS:] for c in group}

    def _paying(
        self, groups: list[list[DecomposableLayer]], share: float
    ) -> tuple[list[list[DecomposableLayer]], dict[str, Choice]]:
        """The kinds that make the network faster, alone, at this share; and why the others are left alone."""
        slow: dict[str, Choice] = {}
        latencies: list[tuple[list[DecomposableLayer], float]] = []
        for group in groups:
            chosen = self._choose([group], share)
            if all(isinstance(choice, str) for choice in chosen.values()):
                slow |= chosen
            else:
                latencies.append((group, self._latency(chosen)))
        self.before = min(self.before, self._latency({}))
        for group, latency in latencies:
            if latency >= self.before:
                slow |= {candidate.name: "the network gets no faster by it and its like" for candidate in group}
        return [group for group, latency in latencies if latency < self.before], slow

    def _larger(
        self, groups: list[list[DecomposableLayer]], low: float, high: float, limit_ms: float
    ) -> tuple[dict[str, Choice], dict[str, Choice], float] | None:
        """Ranks, reasons and latency at the largest share within the limit that is above `low`, if there is one."""
        start = low
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            if self._latency(self._choose(groups, middle)) <= limit_ms:
                low = middle
            else:
                high = middle
        if low == start:
            return None
        paying, slow = self._paying(groups, low)
        chosen = self._choose(paying, low)
        after = self._latency(chosen)
        return (chosen, slow, after) if after <= limit_ms else None

    def _choose(self, groups: Sequence[Sequence[DecomposableLayer]], share: float) -> dict[str, Choice]:
        candidates = [candidate for group in groups for candidate in group]
        return by_share(self.method, candidates, share, DecomposableLayer.macs)

    def _latency(self, chosen: Mapping[str, Choice]) -> float:
        """Measure the network with these layers replaced, their weights unset."""
        network = copy_network(self.model)
        for candidate in self.candidates:
            ranks = chosen.get(candidate.name)
            if isinstance(ranks, tuple):
                old = network.get_submodule(candidate.name)
                chain = build(candidate.layer, self.method.links(candidate.layer, ranks))
                network = replace_module(network, old, chain)
        self.measurements += 1
        return float(self.measure(network.eval()))
