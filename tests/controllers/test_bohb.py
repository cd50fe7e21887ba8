"""BOHB: the split, the kernels, and which model proposes."""

import itertools
from collections import Counter

import numpy as np
import pytest
from bounds import check_above, check_below
from controllers_support import TARGET, Hill, height, run

from controllers import Outcome, Proposal, get_controller
from controllers.bohb import Kernels
from nasbench_registry import UserError
from search_spaces import get_space

SIZES = np.array([4] * 6)
FREE = np.arange(6)


def bohb(seed=0, **options):
    return get_controller("bohb", Hill(), seed=seed, **{"max_epochs": 9} | options)


def test_split_into_good_and_bad():
    """Six decisions: seven good and seven bad at least; 15 % good once that is more; the rest is bad."""
    split = bohb().split
    assert split(13) is None
    assert split(14) == (7, 7)
    assert split(20) == (7, 13)
    assert split(100) == (15, 85)
    assert bohb(min_points=20).split(39) == (20, 19)
    assert bohb(top_n_percent=50).split(100) == (50, 50)


def test_kernels_are_a_distribution():
    """Densities of all 4,096 architectures add up to one."""
    rows = np.random.default_rng(0).integers(4, size=(9, 6))
    everything = np.array(list(itertools.product(range(4), repeat=6)))
    kernels = Kernels(rows, SIZES, 0.1, FREE)
    assert kernels.density(everything).sum() == pytest.approx(1)
    assert kernels.bandwidth.max() <= 3 / 4


def test_kernel_around_one_row_by_hand():
    """No spread: every bandwidth is the smallest one; 1 - h where a decision agrees, h / 3 where it does not."""
    kernels = Kernels(np.array([[0] * 6] * 7), SIZES, 0.3, FREE)
    density = kernels.density(np.array([[0] * 6, [1, 0, 0, 0, 0, 2]]))
    np.testing.assert_allclose(density, [0.7**6, 0.7**4 * 0.1**2])


def test_bandwidth_is_the_rule_of_thumb():
    """1.06 * std * n^(-1 / (4 + 6)) with std = 1/2 and n = 1024 = 2^10: 0.265."""
    rows = np.zeros((1024, 6), dtype=np.int64)
    rows[::2, 0] = 1
    bandwidth = Kernels(rows, SIZES, 0.001, FREE).bandwidth
    np.testing.assert_allclose(bandwidth, [0.265, *[0.001] * 5])


def test_draws_keep_the_row_but_for_the_bandwidth():
    """Each decision stays as it is with the probability 1 - h + h / 4; six deviations of 5,000 draws."""
    kernels = Kernels(np.array([[2] * 6] * 7), SIZES, 0.3, FREE)
    stayed = (kernels.sample(5000, np.random.default_rng(0)) == 2).mean(axis=0)
    p = 0.7 + 0.3 / 4
    assert np.all(np.abs(stayed - p) < 6 * np.sqrt(p * (1 - p) / 5000))


def test_uses_the_model_of_the_most_epochs():
    """What is good at one epoch is bad at nine: proposals follow the nine."""
    drawn = []
    for seed in range(4):
        controller, rng = bohb(seed, random_fraction=0.0, min_bandwidth=0.01), np.random.default_rng(seed)
        for _ in range(60):
            arch = Hill().sample(rng)
            for epochs, sign in ((1, 1), (3, 1), (9, -1)):
                controller.tell(Outcome(Proposal(arch, epochs), (sign * height(arch),)))
        drawn += [height(controller._new()) for _ in range(100)]
    mean = 7 / 12  # of all architectures
    check_below("height above the mean", np.mean(drawn) - mean, mean=-0.1979, sd=0.021, most=0)


def test_failures_are_bad():
    controller, rng = bohb(random_fraction=0.0), np.random.default_rng(0)
    for _ in range(60):
        arch = Hill().sample(rng)
        controller.tell(Outcome(Proposal(arch, 9), None if arch.picks[0] < 2 else (1.0,)))
    drawn = Counter(controller._new().picks[0] < 2 for _ in range(200))
    assert drawn[True] < 100 - 6 * np.sqrt(200 / 4)


def test_draws_some_at_random_all_the_same():
    """Good and bad are one and the same point, so the model proposes it; the others are the random ones.

    A draw leaves the point with the probability 6 * 0.001 * 3/4; six deviations of 800 draws.
    """
    controller = bohb(random_fraction=0.25, min_bandwidth=0.001)
    top = Hill().architecture(TARGET)
    for score in range(30):
        controller.tell(Outcome(Proposal(top, 9), (float(score),)))
    away = sum(controller._new() != top for _ in range(800))
    p = 0.25 + 0.75 * 6 * 0.001 * 3 / 4
    assert abs(away - 800 * p) < 6 * np.sqrt(800 * p * (1 - p))


def test_full_fidelity_only():
    """The settings of the published searches on NAS-Bench-201, but for the epochs: all proposals have all of them."""
    options = {"min_epochs": 12, "max_epochs": 12, "num_samples": 4, "bandwidth_factor": 3, "min_bandwidth": 0.3}
    gains = []
    for seed in range(4):
        proposals = run(bohb(seed, random_fraction=0.0, **options), 120)
        assert {proposal.epochs for proposal in proposals} == {12}
        early, late = (np.mean([height(p.arch) for p in part]) for part in (proposals[:40], proposals[-40:]))
        gains.append(late - early)
    check_above("mean gain", np.mean(gains), mean=0.2367, sd=0.019, least=0)


def test_decisions_that_do_not_matter_are_filled_in_from_where_they_do():
    space = get_space("mobile")
    controller = get_controller("bohb", space, seed=0, max_epochs=9)
    rng = np.random.default_rng(0)
    picks = np.array([space.sample(rng).picks for _ in range(40)])
    flags = space.layout.active_many(picks)
    filled = controller._filled(picks)
    assert not flags.all()
    np.testing.assert_array_equal(filled[flags], picks[flags])
    for column in range(picks.shape[1]):
        known = set(picks[flags[:, column], column].tolist())
        if known:
            assert set(filled[~flags[:, column], column].tolist()) <= known


@pytest.mark.parametrize(
    "options", [{"top_n_percent": 0}, {"num_samples": 0}, {"random_fraction": 1.1}, {"min_bandwidth": 0.0}]
)
def test_refuses_senseless_options(options):
    with pytest.raises(UserError, match=next(iter(options))):
        bohb(**options)
