"""NSGA-II: fronts, crowding, survival."""

import numpy as np
import pytest
from bounds import check_above, check_below
from controllers_support import Hill, height, run

from controllers import Outcome, Proposal, dominates, get_controller
from controllers.core import dominance
from controllers.nsga2 import crowded_order, crowding_distance, non_dominated_fronts
from nasbench_registry import UserError

WEIGHTS = np.sqrt([2, 3, 5, 7, 11, 13])  # so that no two architectures cost the same


def two(proposal):
    """Height against a cost: a front of many members."""
    return height(proposal.arch), -float(WEIGHTS @ proposal.arch.picks)


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_dominance_and_fronts_agree_with_the_definition(objectives):
    values = np.random.default_rng(0).integers(5, size=(60, objectives)).astype(float)
    rows = [tuple(row) for row in values]
    matrix = dominance(values)
    assert all(matrix[i, j] == dominates(rows[i], rows[j]) for i in range(60) for j in range(60))
    fronts = non_dominated_fronts(values)
    assert sorted(np.concatenate(fronts)) == list(range(60))
    left = set(range(60))
    for front in fronts:
        assert set(front) == {j for j in left if not any(dominates(rows[i], rows[j]) for i in left)}
        left -= set(front)


def test_crowding_distance_of_a_front_by_hand():
    """Sides of the boxes: (3 - 0) / 4 + (9 - 3) / 9 for the second, (4 - 1) / 4 + (5 - 0) / 9 for the third."""
    values = np.array([[0.0, 9.0], [1.0, 5.0], [3.0, 3.0], [4.0, 0.0]])
    expected = [np.inf, 3 / 4 + 6 / 9, 3 / 4 + 5 / 9, np.inf]
    np.testing.assert_allclose(crowding_distance(values), expected)


def test_failures_come_behind_every_success_and_the_crowded_behind_the_lonely():
    scores = [None, (0.0, 0.0), (1.0, 9.0), (2.0, 8.9), (5.0, 5.0), None, (9.0, 1.0)]
    order = crowded_order(scores, [None] * 7)
    assert set(order[:2]) == {2, 6}, "the ends of the front"
    assert order[2:4] == [4, 3], "then by distance"
    assert order[4:] == [1, 0, 5]
    scores += [None, None]
    assert crowded_order(scores, [0.5, *[None] * 6, 0.0, 0.75])[4:] == [1, 7, 0, 8, 5]
    scores += [None, None]
    assert crowded_order(scores, [0.5, *[None] * 6, 0.0, 0.75, 0.0, 0.5])[4:] == [1, 7, 0, 8, 9, 10, 5]


def test_keeps_the_non_dominated_of_everything_it_was_told():
    controller = get_controller("nsga2", Hill(), seed=0, population=60)
    scores_of = {}
    for proposal in run(controller, 600, two):
        scores_of[proposal.arch] = two(proposal)
    front = {
        arch for arch, mine in scores_of.items() if not any(dominates(theirs, mine) for theirs in scores_of.values())
    }
    assert 3 <= len(front) <= 60, "the front has to fit into the population for this test"
    values = {scores for _, scores, _ in controller.parents}
    assert {scores_of[arch] for arch in front} <= values


def test_generations_end_when_enough_outcomes_are_there_in_any_order():
    controller, rng = get_controller("nsga2", Hill(), seed=0, population=10), np.random.default_rng(0)
    running = [controller.ask() for _ in range(15)]
    rng.shuffle(running)
    for proposal in running[:9]:
        controller.tell(Outcome(proposal, two(proposal)))
    assert not controller.parents
    controller.tell(Outcome(running[9], two(running[9])))
    assert {arch for arch, *_ in controller.parents} == {proposal.arch for proposal in running[:10]}
    assert controller.ask() is not None, "nobody waits for the other five"


def test_children_come_from_two_parents_and_one_mutation():
    controller = get_controller("nsga2", Hill(), seed=0, population=4)
    parents = [proposal.arch.picks for proposal in run(controller, 4, two)]
    for _ in range(50):
        child = controller.ask().arch.picks
        strange = min(
            sum(c not in (a, b) for c, a, b in zip(child, first, second, strict=True))
            for first in parents
            for second in parents
        )
        assert strange <= 1


def test_finds_a_wider_front_than_random_search():
    """Volume under the front of 400 proposals: the mean difference over 10 seeds."""

    def volume(name, seed, **options):
        controller = get_controller(name, Hill(), seed=seed, **options)
        points = sorted({two(proposal) for proposal in run(controller, 400, two)}, reverse=True)
        total, floor = 0.0, -3 * WEIGHTS.sum()
        for first, second in points:
            total, floor = total + first * max(0.0, second - floor), max(floor, second)
        return total

    gains = np.array([volume("nsga2", seed, population=20) - volume("random", seed) for seed in range(10)])
    check_above("mean gain", gains.mean(), mean=3.537, sd=0.31, least=0)


@pytest.mark.parametrize("options", [{"population": 1}, {"crossover": 1.5}, {"mutation": -0.1}])
def test_refuses_senseless_options(options):
    with pytest.raises(UserError, match=next(iter(options))):
        get_controller("nsga2", Hill(), seed=0, **options)


def test_a_failed_parent_loses_against_a_successful_one():
    controller = get_controller("nsga2", Hill(), seed=0, population=2, crossover=0.0, mutation=0.0)
    good, bad = Hill().architecture((0,) * 6), Hill().architecture((1,) * 6)
    controller.tell(Outcome(Proposal(bad), None))
    controller.tell(Outcome(Proposal(good), (0.0, -100.0)))
    drawn = [controller.ask().arch for _ in range(200)]
    # The bad one is a parent only when both rivals are it: 1/4 of the draws.
    assert abs(drawn.count(bad) - 50) < 6 * np.sqrt(200 * 0.25 * 0.75)


def test_goes_towards_limits_that_nothing_meets_yet():
    """One in a hundred architectures is high enough; how far the others are below is told, or only that they failed."""

    def first(seed, tells_violation):
        controller = get_controller("nsga2", Hill(), seed=seed, population=10)
        for count in range(1, 500):
            proposal = controller.ask()
            below = 0.85 - height(proposal.arch)
            if below <= 0:
                return count
            controller.tell(Outcome(proposal, None, below if tells_violation else None))
        return 500

    informed, failed = (
        np.mean([first(seed, tells_violation) for seed in range(20)]) for tells_violation in (True, False)
    )
    check_below("proposals that are needed, to those of failures", informed / failed, mean=0.2921, sd=0.073, most=1)


def test_a_state_of_an_earlier_version_has_no_violations():
    controller = get_controller("nsga2", Hill(), seed=0, population=4)
    run(controller, 6, lambda proposal: None)
    state = controller.state_dict()
    assert all(beyond is None for *_, beyond in state["parents"] + state["children"])
    old = {**state, **{key: [member[:2] for member in state[key]] for key in ("parents", "children")}}
    again = get_controller("nsga2", Hill(), seed=1, population=4)
    again.load_state_dict(old)
    assert again.state_dict() == state
