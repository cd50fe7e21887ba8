"""The statistics of this project: every interval that it gives, and every verdict that it pronounces.

Two more intervals lie where calls are timed, in `nasbench_compression.timing`, because the loop there ends by them:
that of the median of timed calls, and that of the ratio of two. Everything here is of independent values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
TWO_SIGMAS = float(ndtri(0.5 + CONFIDENCE / 2))  # to either side: 95 % of a normal distribution
NEEDED = 39
"""Independent values, beyond all of which another one of their kind lies in 1 of 40 cases, that is 2.5 %."""
DRAWS = 1000  # of the bootstrap

Verdict = Literal["better", "worse", "no difference"]


@dataclass(frozen=True)
class Spread:
    """A quantity that was measured several times.

    Attributes:
        mean: Mean of the values.
        std: Standard deviation, with n - 1; None for a single value.
        n: Number of values.
    """

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread | None:
        """The spread of those values that are there; None if none is."""
        known_values = [value for value in values if value is not None]
        if not known_values:
            return None
        return cls(
            float(np.mean(known_values)),
            float(np.std(known_values, ddof=1)) if len(known_values) > 1 else None,
            len(known_values),
        )

    @property
    def standard_error(self) -> float | None:
        """The standard error of the mean; None for a single value."""
        return None if self.std is None else self.std / math.sqrt(self.n)

    @property
    def half_width(self) -> float | None:
        """Half the width of the 95 % t interval of the mean; None for a single value."""
        error = self.standard_error
        return None if error is None else error * float(stdtrit(self.n - 1, 0.5 + CONFIDENCE / 2))


# ---- one value among others of its kind


def chance_rank(count: int) -> int:
    """How many of `count` independent values may lie beyond another one of their kind, for it to be no chance.

    If all are of one continuous distribution, whichever it is, the other value is beyond all but k - 1 of them, to one
    side, with the probability k / (count + 1). The largest k whose probability is 2.5 % at most; 0 below `NEEDED`.
    """
    return int(round((1 - CONFIDENCE) / 2 * (count + 1), 9))


def verdict(value: float, others: Sequence[float]) -> Verdict | None:
    """Whether a value is beyond what chance allows for another one of the kind of these.

    A value that is of their kind is called better in 2.5 % of cases at most, and worse in as many: see `chance_rank`.
    Of equal values neither is better.

    Args:
        value: Value to compare, larger is better.
        others: Values that are independent of it and of each other.

    Returns:
        None for fewer than `NEEDED` others, which allow no verdict.
    """
    rank = chance_rank(len(others))
    if rank == 0:
        return None
    ordered = sorted(others)
    if value > ordered[-rank]:
        return "better"
    return "worse" if value < ordered[rank - 1] else "no difference"


def chance_interval(values: Floats) -> tuple[Floats, Floats, float]:
    """The ends between which another value of the same kind lies, and with which probability it does.

    Args:
        values: (n, ...) n independent values along the first axis.

    Returns:
        Lower ends (...), upper ends (...), and the probability: 95 % or a little more from `NEEDED` values on, and what
        all of them together cover below that, (n - 1) / (n + 1).
    """
    ordered, rank = np.sort(values, axis=0), max(1, chance_rank(len(values)))
    return ordered[rank - 1], ordered[-rank], 1 - 2 * rank / (len(values) + 1)


# ---- shares


def share_interval(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927); sound also for 0 hits of `trials`."""
    share, square = hits / trials, TWO_SIGMAS**2
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = TWO_SIGMAS / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    # At the borders rounding would leave a trace of what is exactly 0 or 1.
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    return low, 1.0 if hits == trials else min(1.0, centre + half)


def hits_by_chance(trials: int, rate: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """The fewest and most hits of independent trials of a given rate, in so large a share of cases (binomial)."""
    from scipy import stats  # takes half a second, which processes that only measure need not spend

    tail = (1 - confidence) / 2
    return int(stats.binom.ppf(tail, trials, rate)), int(stats.binom.ppf(1 - tail, trials, rate))


# ---- ratios


def ratio_interval(
    ours: Sequence[float], theirs: Sequence[float], *, paired: bool
) -> tuple[float | None, float | None, float | None]:
    """The ratio of two quantities by the mean of logarithms, and its 95 % t interval; None where there is none.

    Args:
        ours: Values of one group.
        theirs: Values of another group.
        paired: Whether they come in pairs, of equal seeds for example; then the differences within pairs count, else
            the interval is Welch's.
    """
    if not ours or not theirs or min(*ours, *theirs) <= 0:
        return None, None, None
    a, b = np.log(ours), np.log(theirs)
    middle = float(a.mean() - b.mean())
    if (paired and len(a) < 2) or (not paired and min(len(a), len(b)) < 2):
        return math.exp(middle), None, None
    if paired:
        error, freedom = float((a - b).std(ddof=1) / math.sqrt(len(a))), float(len(a) - 1)
    else:
        parts = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
        error = math.sqrt(sum(parts))
        divisor = parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1)
        freedom = sum(parts) ** 2 / divisor if divisor > 0 else float(len(a) + len(b) - 2)
    return _around(middle, error, freedom)


def mean_ratio_interval(
    ours: Sequence[float], theirs: Sequence[float]
) -> tuple[float | None, float | None, float | None]:
    """The ratio of two means over the same seeds, and its 95 % interval by the delta method; None where there is none.

    Single values may be zero, which `ratio_interval` cannot take.

    Args:
        ours: Values of one group, one a seed, none below zero.
        theirs: Values of another group, of the same seeds in the same order.
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if len(a) < 2 or a.mean() <= 0 or b.mean() <= 0:
        return None, None, None
    middle = math.log(a.mean() / b.mean())
    error = float((a / a.mean() - b / b.mean()).std(ddof=1)) / math.sqrt(len(a))
    return _around(middle, error, len(a) - 1.0)


def _around(logarithm: float, error: float, freedom: float) -> tuple[float, float, float]:
    """A ratio by its logarithm, and its 95 % t interval by the standard error of that."""
    reach = float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * error
    return math.exp(logarithm), math.exp(logarithm - reach), math.exp(logarithm + reach)


def ratio_verdict(low: float | None, high: float | None) -> Verdict | None:
    """The verdict on the first group by the interval of a ratio, where larger is better; None without an interval."""
    if low is None or high is None:
        return None
    return "better" if low > 1 else "worse" if high < 1 else "no difference"


# ---- ranks, and the bootstrap


def rank_correlations(first_values: Floats, second_values: Floats) -> Floats:
    """(d,) Spearman's correlation of each row of (d, n) values with that of others; NaN where all values are equal."""
    from scipy import stats  # see `hits_by_chance`

    first, second = (
        stats.rankdata(group, axis=1) - (group.shape[1] + 1) / 2 for group in (first_values, second_values)
    )
    with np.errstate(invalid="ignore"):
        correlations: Floats = (first * second).sum(axis=1) / np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return correlations


def rank_correlation(first_values: Floats, second_values: Floats) -> float:
    """Spearman's correlation of (n,) values with others; NaN where all of either are equal."""
    return float(rank_correlations(np.asarray(first_values)[None], np.asarray(second_values)[None])[0])


def bootstrap_rows(count: int, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """(`DRAWS`, count) rows of a sample drawn with replacement (Efron 1979).

    For means, medians, shares and correlations. Never for a largest value or a hypervolume: a draw cannot exceed the
    sample that it is from, so that whoever found a little more looks better than chance allows in half of all cases.
    """
    return np.random.default_rng(seed).integers(count, size=(DRAWS, count))


def bootstrap_interval(draws: Floats) -> tuple[float, float]:
    """The 95 % interval of a figure from its values on (d,) draws; those that are NaN are left out."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)


# ---- how often a verdict is wrong


@dataclass(frozen=True)
class NullRate:
    """How often something is called better than others of its own kind.

    Attributes:
        hits: Number of hits.
        trials: Number of trials.
        rate: Rate that the hits should have.
        fewest: Fewest hits that chance gives in 95 % of cases at that rate.
        most: Most hits that chance gives in 95 % of cases at that rate.
    """

    hits: int
    trials: int
    rate: float
    fewest: int
    most: int

    @property
    def sound(self) -> bool:
        """Whether the hits lie in their interval."""
        return self.fewest <= self.hits <= self.most


def null_rate(trial: Callable[[int], bool], trials: int, rate: float, confidence: float = CONFIDENCE) -> NullRate:
    """Count how often a verdict is given where there is nothing to be found.

    Args:
        trial: Function that makes independent things of one kind from a seed, and says whether the first was called
            better.
        trials: Number of trials.
        rate: Rate that the verdict promises under the null.
        confidence: Confidence of the interval of the hits.
    """
    hits = sum(trial(seed) for seed in range(trials))
    return NullRate(hits, trials, rate, *hits_by_chance(trials, rate, confidence))
