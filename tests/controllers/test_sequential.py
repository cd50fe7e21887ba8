"""The baseline of a joint search goes stage by stage."""

import json

import pytest

from controllers import Outcome, Proposal, get_controller
from nasbench_registry import UserError
from search_spaces import Decision, DecisionSpace, SearchSpace
from search_spaces.product import ProductSpace


class Networks(SearchSpace):
    name = "networks"
    decisions = tuple(Decision(f"d{index}", (0, 1, 2)) for index in range(4))

    def build(self, arch, task):
        raise AssertionError("a controller never builds a network")


class Recipes(DecisionSpace):
    name = "recipe"
    decisions = (
        Decision("prune.ratio", (0, 0.25, 0.5)),
        Decision("prune.importance", ("l1", "l2"), when={"prune.ratio": (0.25, 0.5)}),
        Decision("quantize.precision", ("fp32", "int8", "int4")),
    )

    def is_valid(self, arch):
        return super().is_valid(arch) and arch.picks[2] != 2


def make(**options):
    return get_controller(
        "sequential",
        ProductSpace(Networks(), Recipes()),
        **{"seed": 0, "architectures": 6, "keep": 2, "controller": "random", "options": {}} | options,
    )


def score(arch):
    """Better networks have larger picks; pruning by a quarter with l2 and int8 help, half hurts."""
    network, ratio, importance, precision = sum(arch.picks[:4]), *arch.picks[4:]
    return (float(network + (0, 2, -3)[ratio] + (0.5 * importance if ratio else 0) + precision),)


def run(controller, count):
    proposed = []
    for _ in range(count):
        proposal = controller.ask()
        proposed.append(proposal.arch.picks)
        controller.tell(Outcome(proposal, score(proposal.arch)))
    return proposed


def test_networks_first_then_each_step_of_the_best():
    proposed = run(make(), 6 + 2 * (4 + 1))
    plain = (0, 0, 0)
    networks = proposed[:6]
    assert all(picks[4:] == plain for picks in networks)
    ranked = sorted(networks, key=lambda picks: -sum(picks[:4]))
    first, second = proposed[6:11], proposed[11:16]
    assert {picks[:4] for picks in first} == {ranked[0][:4]}
    # The plain one is known; then int8 with the pruning that was best. Int4 is not valid.
    assert [picks[4:] for picks in first] == [(1, 0, 0), (1, 1, 0), (2, 0, 0), (2, 1, 0), (1, 1, 1)]
    assert len({picks[:4] for picks in second}) == 1 and sum(second[0][:4]) == sum(ranked[1][:4])


def test_it_begins_again_with_further_networks():
    proposed = run(make(), 16 + 6 + 10)
    again = proposed[16:22]
    assert all(picks[4:] == (0, 0, 0) for picks in again)
    assert {picks[:4] for picks in proposed[22:]}.isdisjoint({picks[:4] for picks in proposed[6:16]}), "none twice"


def test_waits_until_all_options_of_a_step_are_known():
    controller = make()
    proposals = [controller.ask() for _ in range(6)]
    assert controller.ask() is None
    for proposal in proposals:
        controller.tell(Outcome(proposal, score(proposal.arch)))
    step = [controller.ask() for _ in range(4)]
    assert controller.ask() is None
    for proposal in step[:-1]:
        controller.tell(Outcome(proposal, score(proposal.arch)))
    assert controller.ask() is None
    controller.tell(Outcome(step[-1], None))
    assert controller.ask().arch.picks[4:] == (1, 1, 1)


def test_several_scores_are_ranked_by_the_sum_of_ranks():
    controller = make(controller="nsga2", options=None)
    proposed = []
    for _ in range(11):
        proposal = controller.ask()
        proposed.append(proposal.arch.picks)
        controller.tell(Outcome(proposal, (*score(proposal.arch), -float(proposal.arch.picks[0]))))
    assert len({picks[:4] for picks in proposed[6:11]}) == 1


def test_goes_on_from_its_state():
    whole, half = make(), make()
    expected = run(whole, 25)
    proposed = run(half, 9)
    state = json.loads(json.dumps(half.state_dict()))
    resumed = make(seed=1)
    resumed.load_state_dict(state)
    assert proposed + run(resumed, 16) == expected


def test_a_network_that_failed_is_not_compressed():
    controller = make()
    proposals = [controller.ask() for _ in range(6)]
    for index, proposal in enumerate(proposals):
        controller.tell(Outcome(proposal, None if index else score(proposal.arch)))
    kept = proposals[0].arch.picks[:4]
    assert {controller.ask().arch.picks[:4] for _ in range(4)} == {kept}


def two_scores(arch):
    """Larger picks are more accurate and cost more; d3 costs without being worth anything."""
    return float(sum(arch.picks[:3])), -float(sum(arch.picks[:4]))


@pytest.mark.parametrize("keep", ["front", "best"])
def test_the_front_or_the_best_network_alone_is_handed_on(keep):
    controller = make(keep=keep, architectures=12)
    networks = {}
    for _ in range(12):
        proposal = controller.ask()
        networks[proposal.arch.picks[:4]] = two_scores(proposal.arch)
        controller.tell(Outcome(proposal, two_scores(proposal.arch)))
    controller.architectures = 0  # no further networks: what is asked now is compressed
    handed_on = set()
    for _ in range(60):
        proposal = controller.ask()
        if not controller.chosen:
            break
        handed_on.add(proposal.arch.picks[:4])
        controller.tell(Outcome(proposal, two_scores(proposal.arch)))
        if not controller.queue and not controller.chosen[1:] and controller.step == len(controller.steps) - 1:
            break
    if keep == "best":
        assert len(handed_on) == 1 and networks[handed_on.pop()][0] == max(scores[0] for scores in networks.values())
    else:
        front = {
            one
            for one, scores in networks.items()
            if not any(a >= scores[0] and b >= scores[1] and (a, b) != scores for a, b in networks.values())
        }
        assert handed_on == front and 1 < len(front) < len(networks)


def test_where_nothing_keeps_the_limits_what_is_nearest_goes_on():
    controller = make(keep="best")
    limits = {}
    for _ in range(6):
        proposal = controller.ask()
        limits[proposal.arch.picks[:4]] = float(sum(proposal.arch.picks))
        controller.tell(Outcome(proposal, None, violation=limits[proposal.arch.picks[:4]]))
    following = controller.ask()
    assert limits[following.arch.picks[:4]] == min(limits.values())


def test_what_it_cannot_do_is_refused():
    for keep in (0, 7, "all"):
        with pytest.raises(UserError, match="keep from 1 to architectures, front, or best"):
            make(keep=keep)

    class Harsh(Recipes):
        def is_valid(self, arch):
            return super().is_valid(arch) and arch.picks[0] > 0

    with pytest.raises(UserError, match="first option of each choice"):
        get_controller("sequential", ProductSpace(Networks(), Harsh()), seed=0)


def test_what_others_know_is_welcome():
    controller = make()
    space = controller.space
    controller.tell(Outcome(Proposal(space.architecture((2, 2, 2, 2, 0, 0, 0))), (8.0,)))
    assert len(run(controller, 20)) == 20
