"""The statistics that every interval and every verdict of the project comes from."""

import math

import numpy as np
import pytest
from scipy.stats import binom, spearmanr

from nasbench.objectives.statistics import (
    DRAWS,
    NEEDED,
    bootstrap_interval,
    bootstrap_rows,
    chance_interval,
    chance_rank,
    hits_by_chance,
    mean_ratio_interval,
    null_rate,
    rank_correlation,
    rank_correlations,
    verdict,
)


@pytest.mark.parametrize("count", [1, 5, 38, 39, 40, 78, 79, 1000])
def test_no_verdict_is_wrong_more_often_than_in_2_5_percent_of_cases(count):
    """By symmetry: the value is equally likely to have any of the count + 1 ranks."""
    rank = chance_rank(count)
    assert rank / (count + 1) <= 0.025 + 1e-12 < (rank + 1) / (count + 1)
    assert (rank == 0) == (count < NEEDED)
    others = [float(number) for number in range(count)]
    verdicts = [verdict(number - 0.5, others) for number in range(count + 1)]
    assert verdicts.count("better") == verdicts.count("worse") == (rank if rank else 0)
    assert verdicts.count(None) == (0 if rank else count + 1)


def test_of_equal_values_neither_is_better():
    assert verdict(1.0, [1.0] * 50) == "no difference"


@pytest.mark.parametrize("count", [5, 39, 100])
def test_the_interval_of_another_value_covers_what_it_says(count):
    values = np.random.default_rng(count).standard_cauchy((count + 1, 4000))
    low, high, share = chance_interval(values[1:])
    inside = int(((values[0] >= low) & (values[0] <= high)).sum())
    fewest, most = hits_by_chance(4000, share, 1 - 1e-4)
    assert fewest <= inside <= most
    assert share >= 0.95 or count < NEEDED


def test_one_value_alone_tells_nothing_of_another():
    low, high, share = chance_interval(np.array([[1.0, 2.0]]))
    assert low.tolist() == high.tolist() == [1.0, 2.0] and share == 0


def test_hits_by_chance_are_those_of_the_binomial():
    fewest, most = hits_by_chance(400, 0.025)
    assert binom.cdf(fewest - 1, 400, 0.025) <= 0.025 < binom.cdf(fewest, 400, 0.025)
    assert binom.sf(most, 400, 0.025) <= 0.025 < binom.sf(most - 1, 400, 0.025)


def test_a_rate_is_sound_only_within_chance():
    right = null_rate(lambda seed: seed % 40 == 0, 400, 0.025)
    wrong = null_rate(lambda seed: seed % 2 == 0, 400, 0.025)
    assert (right.hits, right.sound, wrong.hits, wrong.sound) == (10, True, 200, False)


def test_rank_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, (6, 30)).astype(float), rng.integers(0, 9, (6, 30)).astype(float)
    expected = [spearmanr(*pair).statistic for pair in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlations(first, second), expected, rtol=1e-12)
    assert rank_correlation(first[0], second[0]) == pytest.approx(expected[0])
    assert math.isnan(rank_correlation(np.ones(5), np.arange(5.0)))


def test_the_bootstrap_covers_a_mean():
    rng, covered, n = np.random.default_rng(0), 0, 50
    for seed in range(300):
        sample = rng.exponential(size=n)
        low, high = bootstrap_interval(sample[bootstrap_rows(n, seed=seed)].mean(axis=1))
        covered += low <= 1 <= high
    assert bootstrap_rows(n).shape == (DRAWS, n)
    # For 50 skewed values the percentile interval covers some points less than 95 %.
    assert covered >= hits_by_chance(300, 0.90, 1 - 1e-4)[0]


def test_the_interval_of_a_ratio_of_means_holds_it_as_often_as_it_says():
    """Of searches that cover nothing in one case of five, over the same seeds."""
    rng, trials = np.random.default_rng(0), 2000
    seeds = rng.uniform(0.5, 1, (trials, 30))
    ours, theirs = (seeds * rng.uniform(0.5, 1, seeds.shape) * (rng.random(seeds.shape) < 0.8) for _ in range(2))
    intervals = [mean_ratio_interval(*pair) for pair in zip(2 * ours, theirs, strict=True)]
    held = sum(low < 2 < high for _, low, high in intervals)
    # 96.15 % in 20,000 other trials, a little more than 95; beyond 94 and 98 % in fewer than one of 10,000 runs.
    assert 0.94 * trials < held < 0.98 * trials
    assert mean_ratio_interval([2.0, 4.0], [1.0, 2.0]) == (pytest.approx(2), pytest.approx(2), pytest.approx(2))
    assert mean_ratio_interval([0.0, 0.0], [1.0, 2.0]) == mean_ratio_interval([1.0], [2.0]) == (None, None, None)
