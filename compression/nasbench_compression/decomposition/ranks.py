"""Ranks of layers: for each layer by itself, or for a network as a whole.

A function for one layer gives the ranks, or in words why the layer is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nasbench_compression.decomposition.cp import CP
from nasbench_compression.decomposition.decomposable import Cost, DecomposableLayer
from nasbench_compression.decomposition.method import Method, Ranks, decompose_layer
from nasbench_compression.decomposition.vbmf import vbmf

Choice = Ranks | str
_BISECTIONS = 40
_SMALL = 0.01
_ENERGY_BISECTIONS = 6  # each decomposes the weight


def by_ratio(method: Method, candidate: DecomposableLayer, ratio: float) -> Choice:
    """The largest ranks with no more than a share `ratio` of the layer's weights."""
    whole = candidate.weights(method, None)
    step = _largest(method, candidate, DecomposableLayer.weights, ratio * whole)
    if step == 0:
        least = candidate.weights(method, method.at_step(candidate.layer, 1))
        return f"rank 1 has {least} weights, more than a share of {ratio} of its {whole}"
    return method.at_step(candidate.layer, step)


def by_rank(method: Method, candidate: DecomposableLayer, rank: int) -> Choice:
    """The same number for each rank of each layer, or what is possible of it."""
    return _if_smaller(method, candidate, method.same(candidate.layer, rank))


def by_vbmf(method: Method, candidate: DecomposableLayer) -> Choice:
    """The ranks that variational Bayes finds in the unfoldings of the weight."""
    ranks = [vbmf(matrix).rank for matrix in method.unfoldings(candidate.layer)]
    if 0 in ranks:
        return "VBMF finds nothing but noise in its weight"
    return _if_smaller(method, candidate, method.from_unfoldings(candidate.layer, ranks))


def by_energy(method: Method, candidate: DecomposableLayer, energy: float) -> Choice:
    """Ranks that keep this share of the squared norm of the weight, the smallest that can be found.

    Of each unfolding the smallest singular values are left out whose squares have a common share of the sum. With
    (1 - energy) / n, for n unfoldings, the error is small enough for certain; for n > 1 the largest share that will do
    is bisected. CP, whose error no unfolding tells, is tried with one number of components after the other.
    """
    if isinstance(method, CP):
        return _cp_by_energy(method, candidate, energy)
    layer = candidate.layer
    squares = [np.linalg.svd(matrix, compute_uv=False) ** 2 for matrix in method.unfoldings(layer)]

    def ranks(lost: float) -> Ranks:
        unfolding_ranks = [
            1 + int(((values.sum() - values.cumsum()) > lost * values.sum()).sum()) for values in squares
        ]
        return method.from_unfoldings(layer, unfolding_ranks)

    low, high = (1 - energy) / len(squares), 1 - energy
    best = ranks(low)
    for _ in range(_ENERGY_BISECTIONS if len(squares) > 1 else 0):
        middle = (low + high) / 2
        middle_ranks = ranks(middle)
        if middle_ranks == best or decompose_layer(method, layer, middle_ranks, candidate.seed)[1] ** 2 <= 1 - energy:
            low, best = middle, middle_ranks
        else:
            high = middle
    return _if_smaller(method, candidate, best)


def by_share(method: Method, candidates: Sequence[DecomposableLayer], share: float, cost: Cost) -> dict[str, Choice]:
    """Largest ranks of each layer that cost at most a share of what it costs now, and at least rank one.

    Args:
        method: Method of decomposition.
        candidates: Layers that may be replaced.
        share: Share of the cost, from 0; with 1, as much as just pays.
        cost: Cost of a layer with given ranks.
    """
    chosen: dict[str, Choice] = {}
    for candidate in candidates:
        whole = cost(candidate, method, None)
        step = max(1, _largest(method, candidate, cost, min(share * whole, whole - 1)))
        ranks = method.at_step(candidate.layer, step)
        least = cost(candidate, method, ranks)
        chosen[candidate.name] = ranks if least < whole else f"even with rank 1 it costs {least} in place of {whole}"
    return chosen


def total(method: Method, candidates: Sequence[DecomposableLayer], chosen: Mapping[str, Choice], cost: Cost) -> int:
    """Cost of all layers together; layers that are left alone cost what they cost now."""
    ranks = {name: None if isinstance(choice, str) else choice for name, choice in chosen.items()}
    return sum(cost(candidate, method, ranks[candidate.name]) for candidate in candidates)


def without_small(method: Method, candidates: Sequence[DecomposableLayer], cost: Cost) -> list[DecomposableLayer]:
    """The layers but for the cheapest, which have a hundredth of the cost together: they would save nothing."""
    budget = _SMALL * sum(cost(candidate, method, None) for candidate in candidates)
    small = set()
    for candidate in sorted(candidates, key=lambda candidate: cost(candidate, method, None)):
        budget -= cost(candidate, method, None)
        if budget < 0:
            break
        small.add(candidate.name)
    return [candidate for candidate in candidates if candidate.name not in small]


def to_limit(
    method: Method, candidates: Sequence[DecomposableLayer], limit: float, cost: Cost
) -> tuple[dict[str, Choice], int]:
    """Ranks at which the layers cost no more than `limit` together: the same share of its cost is kept of each.

    Layers that are alike get larger ranks all at the same share, which may be too much at once; then some of them do,
    in order, so that methods can be compared at nearly the same cost.

    Returns:
        The choice with the largest share, and its cost. That is above the limit if nothing is within.
    """
    low, high = 0.0, 1.0
    best = by_share(method, candidates, low, cost)
    if total(method, candidates, best, cost) <= limit:
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            chosen = by_share(method, candidates, middle, cost)
            if total(method, candidates, chosen, cost) <= limit:
                low, best = middle, chosen
            else:
                high = middle
        for name, larger in by_share(method, candidates, high, cost).items():
            enlarged = best | {name: larger}
            if total(method, candidates, enlarged, cost) <= limit:
                best = enlarged
    return best, total(method, candidates, best, cost)


def _largest(method: Method, candidate: DecomposableLayer, cost: Cost, limit: float) -> int:
    """The largest step of ranks within the limit, 0 if there is none; costs never fall from step to step."""
    low, high = 0, method.steps(candidate.layer)
    while low < high:
        middle = (low + high + 1) // 2
        if cost(candidate, method, method.at_step(candidate.layer, middle)) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def _if_smaller(method: Method, candidate: DecomposableLayer, ranks: Ranks) -> Choice:
    weights, whole = candidate.weights(method, ranks), candidate.weights(method, None)
    if weights >= whole:
        return f"rank {written(ranks)} has {weights} weights, no fewer than its {whole}"
    return ranks


def _cp_by_energy(method: CP, candidate: DecomposableLayer, energy: float) -> Choice:
    def kept_energy(rank: int) -> float:
        return 1 - decompose_layer(method, candidate.layer, (rank,), candidate.seed)[1] ** 2

    low, high = 0, _largest(method, candidate, DecomposableLayer.weights, candidate.weights(method, None) - 1)
    if high == 0 or kept_energy(high) < energy:
        return f"CP keeps less than {energy} of it with the {high} components that have fewer weights than it"
    while high - low > 1:
        middle = (low + high) // 2
        if kept_energy(middle) >= energy:
            high = middle
        else:
            low = middle
    return (high,)


def written(ranks: Ranks) -> int | list[int]:
    """The ranks as a note has them: a number, or a list of several."""
    return ranks[0] if len(ranks) == 1 else list(ranks)
