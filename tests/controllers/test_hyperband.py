"""Hyperband's brackets, and what they save."""

from collections import Counter

import numpy as np
import pytest
from bounds import check_above
from controllers_support import Hill, height, run

from controllers import Outcome, Proposal, get_controller
from nasbench_registry import UserError


def hyperband(seed=0, **options):
    return get_controller("hyperband", Hill(), seed=seed, **options)


def blurred(proposal, fog=0):
    """Height seen through a fog that lifts with the epochs; the same for the same architecture, epochs and fog."""
    noise = np.random.default_rng([*proposal.arch.picks, proposal.epochs, fog]).normal()
    return (height(proposal.arch) + 0.15 * noise / np.sqrt(proposal.epochs),)


def test_brackets_of_the_paper():
    """R = 81, eta = 3: n = ceil(5 / (s + 1) * 3^s), a third of which goes on each time (Algorithm 1 of the paper)."""
    controller = hyperband(max_epochs=81, eta=3)
    assert controller.rungs(4) == [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]
    assert controller.rungs(3) == [(34, 3), (11, 9), (3, 27), (1, 81)]
    assert controller.rungs(2) == [(15, 9), (5, 27), (1, 81)]
    assert controller.rungs(1) == [(8, 27), (2, 81)]
    assert controller.rungs(0) == [(5, 81)]


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({"max_epochs": 12}, [1, 4, 12]),
        ({"max_epochs": 81, "min_epochs": 9}, [9, 27, 81]),
        ({"max_epochs": 81, "min_epochs": 10}, [27, 81]),
        ({"max_epochs": 16, "eta": 4}, [1, 4, 16]),
        ({"max_epochs": 7, "min_epochs": 7}, [7]),
    ],
)
def test_epochs_are_whole_and_within_what_was_asked(options, epochs):
    controller = hyperband(**options)
    assert [rung_epochs for _, rung_epochs in controller.rungs(controller.s_max)] == epochs


def test_brackets_come_in_turn_and_begin_again():
    """One round of max_epochs = 9 asks for 9 + 3 + 1, then 5 + 1, then 3 proposals."""
    epochs = [proposal.epochs for proposal in run(hyperband(max_epochs=9), 44)]
    once = [1] * 9 + [3] * 3 + [9] + [3] * 5 + [9] + [9] * 3
    assert epochs == once * 2


def test_the_best_of_a_rung_go_on():
    proposals = run(hyperband(max_epochs=9), 13, blurred)
    for here, above in ((proposals[:9], proposals[9:12]), (proposals[9:12], proposals[12:])):
        ranked = sorted(here, key=blurred, reverse=True)
        assert [p.arch for p in above] == [p.arch for p in ranked[: len(above)]]


def test_failures_do_not_go_on():
    failing = set()

    def score(proposal):
        if proposal.epochs == 1 and len(failing) < 7:
            failing.add(proposal.arch)
            return None
        return (height(proposal.arch),)

    proposals = run(hyperband(max_epochs=9), 12, score)
    assert [proposal.epochs for proposal in proposals[9:]] == [3, 3, 9], "two are left of nine"
    assert not failing & {proposal.arch for proposal in proposals[9:]}


def test_a_bracket_in_which_all_fail_ends():
    proposals = run(hyperband(max_epochs=9), 12, lambda proposal: None)
    assert [proposal.epochs for proposal in proposals] == [1] * 9 + [3] * 3


@pytest.mark.parametrize("workers", [1, 4, 30])
def test_rungs_are_full_whatever_the_order_of_the_answers(workers):
    """What was asked for is, for each number of epochs, the places of all rungs less those that are still open."""
    controller, rng, running, proposed = hyperband(max_epochs=9), np.random.default_rng(0), [], Counter()
    for _ in range(300):
        while len(running) < workers:
            running.append(controller.ask())
            proposed[running[-1].epochs] += 1
        proposal = running.pop(int(rng.integers(len(running))))
        controller.tell(Outcome(proposal, blurred(proposal)))
    held = Counter()
    for index in range(controller.opened):
        held += Counter({epochs: places for places, epochs in controller.rungs(2 - index % 3)})
    for bracket in controller.brackets:
        places, epochs = bracket.rungs[bracket.rung]
        assert places == bracket.fresh + len(bracket.queue) + bracket.running.total() + len(bracket.results)
        held[epochs] -= bracket.fresh + len(bracket.queue)
        held -= Counter({epochs: places for places, epochs in bracket.rungs[bracket.rung + 1 :]})
    assert proposed == held


def test_the_same_architecture_twice_in_a_rung_waits_for_both():
    controller, arch = hyperband(max_epochs=3), Hill().architecture((0,) * 6)
    controller._new = lambda: arch
    first = [controller.ask() for _ in range(3)]
    controller.tell(Outcome(first[0], (0.5,)))
    controller.tell(Outcome(first[1], (0.5,)))
    assert controller.brackets[0].rung == 0
    controller.tell(Outcome(first[2], (0.5,)))
    assert controller.ask() == Proposal(arch, 3)


def test_full_epochs_may_be_answered_as_the_full_budget():
    controller = hyperband(max_epochs=5, min_epochs=5)
    controller.tell(Outcome(Proposal(controller.ask().arch, None), (1.0,)))
    assert not controller.brackets


def test_finds_better_architectures_than_random_search_for_the_same_epochs():
    """Mean height of the apparently best fully trained one after 40 x 27 epochs, over 80 seeds.

    Random search trains 40 architectures.
    """

    def best(name, seed, **options):
        controller, spent, trained = get_controller(name, Hill(), seed=seed, **options), 0, []
        while spent < 40 * 27:
            proposal = controller.ask()
            proposal = Proposal(proposal.arch, proposal.epochs or 27)
            spent += proposal.epochs
            controller.tell(Outcome(proposal, blurred(proposal, seed)))
            trained += [proposal] * (proposal.epochs == 27)
        return height(max(trained, key=lambda proposal: blurred(proposal, seed)).arch)

    gains = np.array([best("hyperband", seed, max_epochs=27) - best("random", seed) for seed in range(80)])
    check_above("mean gain", gains.mean(), mean=0.0427, sd=0.0071, least=0)


@pytest.mark.parametrize("options", [{"min_epochs": 0}, {"min_epochs": 82}, {"eta": 1}])
def test_refuses_senseless_options(options):
    with pytest.raises(UserError, match=next(iter(options))):
        hyperband(**options)
