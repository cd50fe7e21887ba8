"""Local search climbs, starts anew, and repeats nothing."""

import pytest
from controllers_support import TARGET, Hill, height, run

from controllers import Outcome, Proposal, SearchFinished, get_controller
from nasbench_registry import UserError
from search_spaces import Decision, get_space


def search(space, **options):
    return get_controller("local_search", space, **{"seed": 0} | options)


def test_evaluates_all_neighbours_then_moves_to_the_best():
    space = Hill()
    archs = [proposal.arch for proposal in run(search(space), 34)]
    start, first, second = archs[0], archs[1:19], archs[19:]
    assert set(first) == set(space.neighbors(start))
    best = [arch for arch in first if height(arch) == max(map(height, first))]  # of equal ones it takes any
    assert set(second) in [set(space.neighbors(arch)) - set(archs[:19]) for arch in best]


@pytest.mark.parametrize("options", [{}, {"first_improvement": True}, {"initial": 10}])
def test_climbs_a_hill_to_its_top(options):
    """Six decisions are wrong at most, and each round mends one: the top after the starts and 6 neighbourhoods of 18.

    With the first improvement a decision may need three moves, each within 18 neighbours.
    """
    for seed in range(10):
        moves = 18 if "first_improvement" in options else 6
        proposals = run(search(Hill(), seed=seed, **options), options.get("initial", 1) + 18 * moves)
        assert TARGET in {proposal.arch.picks for proposal in proposals}


def test_first_improvement_moves_at_once():
    space = Hill()
    archs = [proposal.arch for proposal in run(search(space, first_improvement=True), 30)]
    current = archs[0]
    for arch in archs[1:]:
        assert arch in set(space.neighbors(current))
        if height(arch) > height(current):
            current = arch
        if current.picks == TARGET:
            break


def test_neighbours_come_in_random_order():
    start = Hill().architecture((0,) * 6)
    orders = []
    for seed in range(2):
        controller = search(Hill(), seed=seed)
        controller.tell(Outcome(Proposal(start), (0.9,)))
        orders.append([proposal.arch for proposal in run(controller, 18)])
    listed = list(Hill().neighbors(start))
    assert set(orders[0]) == set(orders[1]) == set(listed)
    assert orders[0] != orders[1]
    assert listed not in orders


def test_starts_anew_in_a_local_optimum():
    controller = search(Hill())
    top = Hill().architecture(TARGET)
    controller.tell(Outcome(Proposal(top), (1.0,)))
    proposals = run(controller, 19)
    assert {proposal.arch for proposal in proposals[:18]} == set(Hill().neighbors(top))
    assert proposals[18].arch not in {top, *Hill().neighbors(top)}


def test_proposes_everything_once_and_then_is_finished():
    class Small(Hill):
        decisions = tuple(Decision(f"d{i}", (0, 1, 2)) for i in range(3))

    proposals = []
    controller = search(Small())
    with pytest.raises(SearchFinished, match="nothing new"):
        while True:
            proposals += run(controller, 1, lambda proposal: (float(proposal.arch.picks[0]),))
    assert len({proposal.arch for proposal in proposals}) == len(proposals) == 27


def test_repeats_no_network_where_decisions_are_conditional():
    space = get_space("mobile")
    proposals = run(search(space), 300, lambda proposal: (float(sum(proposal.arch.picks)),))
    assert len({space.canonical(proposal.arch) for proposal in proposals}) == 300


def test_never_moves_to_a_failure():
    controller, space = search(Hill()), Hill()
    start = run(controller, 1)[0].arch
    run(controller, 18, lambda proposal: None)
    assert controller.ask().arch not in {start, *space.neighbors(start)}, "all neighbours failed: a local optimum"


def test_waits_for_the_last_neighbour_only():
    controller = search(Hill())
    run(controller, 1)
    round_ = [controller.ask() for _ in range(18)]
    assert controller.ask() is None
    for proposal in round_[:-1]:
        controller.tell(Outcome(proposal, (height(proposal.arch),)))
    assert controller.ask() is None
    controller.tell(Outcome(round_[-1], (height(round_[-1].arch),)))
    assert controller.ask() is not None


def test_refuses_no_start():
    with pytest.raises(UserError, match="initial=0"):
        search(Hill(), initial=0)
