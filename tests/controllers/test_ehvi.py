"""Expected hypervolume against sampling, and the controller that maximizes it."""

import numpy as np
import pytest

from controllers import Outcome, Proposal, get_controller
from controllers.core import front_of
from controllers.ehvi import EHVI, scaled
from controllers.expected_hypervolume import boxes, log_expected_gain, log_mean_excess, spread
from controllers.testing import Corners
from nasbench.objectives.hypervolume import hypervolume
from nasbench_registry import UserError
from search_spaces import Decision, SearchSpace


class Plane(SearchSpace):
    """Five decisions of four options, for two scores that pull apart."""

    name = "plane"
    decisions = tuple(Decision(f"d{number}", (0, 1, 2, 3)) for number in range(5))

    def build(self, arch, task):
        raise AssertionError("a controller needs no network")


def two_scores(arch):
    """Quality grows with the picks and levels off, and so does the cost; the last decision only costs."""
    picks = np.array(arch.picks, dtype=float)
    return (float(np.sqrt(picks[:4].sum())), -float(np.exp(0.2 * picks.sum())))


@pytest.mark.parametrize("digits", [16, 1], ids=["", "with ties"])
@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_boxes_are_what_a_front_does_not_dominate(objectives, digits):
    """Cut off at one, their volumes and the hypervolume of the front fill the unit cube."""
    rng = np.random.default_rng(objectives)
    front = front_of(rng.random((9, objectives)).round(digits))
    low, high = boxes(front, np.zeros(objectives))
    volume = float((np.minimum(high, 1) - np.minimum(low, 1)).prod(axis=1).sum())
    assert volume + hypervolume(front) == pytest.approx(1, abs=1e-12)
    points = rng.random((200, objectives))
    inside = ((points[:, None] > low) & (points[:, None] < high)).all(axis=2).sum(axis=1)
    dominated = (front[None] >= points[:, None]).all(axis=2).any(axis=1)
    assert np.array_equal(inside, 1 - dominated.astype(int))


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_expected_gain_is_the_mean_of_gains(objectives):
    """Within four standard errors of 400 draws."""
    rng = np.random.default_rng(objectives)
    front = front_of(rng.random((7, objectives)))
    low, high = boxes(front, np.zeros(objectives))
    mean, deviation = rng.random((3, objectives)), 0.1 + 0.3 * rng.random((3, objectives))
    expected_gain = np.exp(log_expected_gain(mean, deviation, low, high))
    before = hypervolume(front)
    for index in range(3):
        drawn = mean[index] + deviation[index] * rng.standard_normal((400, objectives))
        gains = np.array([hypervolume(np.vstack([front, point[None]])) - before for point in drawn])
        assert abs(expected_gain[index] - gains.mean()) < 4 * gains.std() / np.sqrt(len(gains))


def test_hopeless_candidates_can_still_be_compared():
    low, high = boxes(np.array([[1.0, 1.0]]), np.zeros(2))
    gains = log_expected_gain(np.array([[-50.0, -50.0], [-40.0, -40.0]]), np.ones((2, 2)), low, high)
    assert np.isfinite(gains).all() and gains[1] > gains[0]
    # log(phi(z) / z^2) for z far below zero, to the first order
    tail = -5000 - 0.5 * np.log(2 * np.pi) - 2 * np.log(100)
    assert log_mean_excess(np.array([-100.0]))[0] == pytest.approx(tail, abs=1e-3)
    assert log_mean_excess(np.array([-np.inf, 0.0])).tolist() == [-np.inf, pytest.approx(-0.5 * np.log(2 * np.pi))]
    z = np.array([-1 - 1e-9, -1 + 1e-9])
    assert log_mean_excess(z)[0] == pytest.approx(log_mean_excess(z)[1], abs=1e-7)


def test_a_front_is_thinned_out_evenly():
    line = np.column_stack([np.arange(101.0), np.arange(101.0)[::-1]])
    kept = spread(line, 11)
    assert len(kept) == 11 and kept[0].tolist() == [0, 100] and kept[-1].tolist() == [100, 0]
    assert np.abs(np.diff(kept[:, 0])).max() <= 13
    assert spread(line[:5], 11) is not None and len(spread(line[:5], 11)) == 5


def test_scores_are_seen_as_costs_are_compared():
    """Halving a cost counts the same everywhere; a factor of less than two is left as it is."""
    costs = -np.array([1.0, 2.0, 4.0, 8.0])
    quality = np.array([90.0, 91.0, 92.0, 93.0])
    values = scaled(np.column_stack([quality, costs]))
    assert np.diff(values[:, 1]) == pytest.approx([np.diff(values[:, 1])[0]] * 3)
    assert np.diff(values[:, 0]) == pytest.approx([np.diff(values[:, 0])[0]] * 3)
    assert values.mean(axis=0) == pytest.approx([0, 0]) and values.std(axis=0) == pytest.approx([1, 1])
    outlier = scaled(np.column_stack([np.append(quality, 92.5), np.append(costs, -3.0)]))
    assert np.isfinite(outlier).all()


@pytest.mark.fixed_seeds
def test_it_covers_more_than_random_search():
    """Over seven pairs of searches of 25 candidates: ahead in all, which chance does in 0.8 % of cases."""
    space = Plane()

    def covered(name, seed):
        controller = get_controller(name, space, seed=seed)
        points = []
        for _ in range(25):
            proposal = controller.ask()
            scores = two_scores(proposal.arch)
            controller.tell(Outcome(proposal, scores))
            points.append((scores[0] / 4, 1 - np.log(-scores[1]) / 3))
        return hypervolume(front_of(np.array(points)))

    ahead = sum(covered("ehvi", seed) > covered("random", seed) for seed in range(7))
    assert ahead == 7


@pytest.mark.fixed_seeds
def test_it_keeps_within_limits_that_it_is_told_of():
    """The limit leaves a quarter of the space at most; after the first candidates twice as many proposals keep it."""
    space, limit = Plane(), 3.0
    controller = get_controller("ehvi", space, seed=0)
    kept = []
    for _ in range(40):
        proposal = controller.ask()
        scores = two_scores(proposal.arch)
        fine = -scores[1] <= limit
        kept.append(fine)
        controller.tell(Outcome(proposal, scores if fine else None, None if fine else -scores[1] / limit - 1))
    share = np.mean([-two_scores(space.sample(np.random.default_rng(seed)))[1] <= limit for seed in range(300)])
    assert share < 0.25 and np.mean(kept[20:]) > 2 * share


def test_one_to_four_scores_and_no_more():
    space = Corners()
    for count in (1, 2, 3, 4):
        controller = EHVI(space, seed=0, initial=3)
        for _ in range(8):
            proposal = controller.ask()
            picks = proposal.arch.picks
            controller.tell(Outcome(proposal, tuple(float(pick) for pick in picks[:count])))
    proposal = Proposal(space.sample(np.random.default_rng(0)))
    with pytest.raises(UserError, match="takes one to 4 scores, not 5"):
        EHVI(space, seed=0).tell(Outcome(proposal, (1.0,) * 5))
    with pytest.raises(UserError, match="initial=0"):
        EHVI(space, seed=0, initial=0)


def test_parallel_workers_get_different_architectures():
    controller = EHVI(Plane(), seed=0, initial=5)
    for _ in range(8):
        proposal = controller.ask()
        controller.tell(Outcome(proposal, two_scores(proposal.arch)))
    archs = [controller.ask().arch for _ in range(6)]
    assert len(set(archs)) == 6
