"""What makes each algorithm that algorithm."""

import hashlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from bounds import check_above, check_below

from controllers import CONTROLLERS, Outcome, Proposal, dominates, get_controller
from controllers.policy import LSTMPolicy, tensors_to_text, text_to_tensors
from nasbench_registry import UserError
from search_spaces import get_space


@pytest.fixture
def space():
    return get_space("nasbench201")


def test_the_documentation_lists_every_controller_with_its_options():
    text = (Path(__file__).parents[2] / "docs/experiments.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", text, flags=re.MULTILINE))
    for name, cls in CONTROLLERS.items():
        *_, several, options, _ = rows[name].split("|")
        assert (several.strip() == "yes") == cls.multi_objective, name
        known = {option for option in inspect.signature(cls).parameters if option not in ("space", "seed")}
        inherited = {"min_epochs", "max_epochs", "eta", "promotion"} if "those of `hyperband`" in options else set()
        assert {*re.findall(r"`(\w+)`", options.replace("those of `hyperband`", "")), *inherited} == known, name


def test_dominates():
    assert dominates((2, 1), (1, 1))
    assert not dominates((1, 1), (1, 1))
    assert not dominates((2, 0), (1, 1))


def test_evolution_children_differ_from_a_living_member_in_one_decision(space):
    controller = get_controller("regularized_evolution", space, seed=0, population=5, tournament=2)
    rng, history = np.random.default_rng(0), []
    for step in range(60):
        proposal = controller.ask()
        if step >= 5:
            living = history[-5:]
            differences = [sum(a != b for a, b in zip(proposal.arch.picks, p.picks, strict=True)) for p in living]
            assert 1 in differences, "the child is no mutation of one of the five youngest"
        history.append(proposal.arch)
        controller.tell(Outcome(proposal, (float(rng.random()),)))


def test_evolution_with_a_full_tournament_mutates_the_best(space):
    controller = get_controller("regularized_evolution", space, seed=3, population=4, tournament=4)
    for _ in range(4):
        controller.tell(Outcome(controller.ask(), (0.0,)))
    best = space.sample(np.random.default_rng(11))
    controller.tell(Outcome(Proposal(best), (1.0,)))
    near = 0
    for _ in range(200):
        child = controller.ask().arch
        near += sum(a != b for a, b in zip(child.picks, best.picks, strict=True)) == 1
    # Four draws with replacement from four members miss the best with probability (3/4)^4 = 0.316.
    expected, spread = 200 * (1 - 0.75**4), (200 * 0.316 * 0.684) ** 0.5
    assert abs(near - expected) < 6 * spread


@pytest.mark.parametrize("tournament", [0, 13])
def test_evolution_refuses_a_tournament_larger_than_the_population(space, tournament):
    with pytest.raises(UserError, match=f"tournament={tournament} must be from 1 to population=12"):
        get_controller("regularized_evolution", space, seed=0, population=12, tournament=tournament)


def test_predictor_evolution_uses_features_that_tell_the_scores(space):
    """Scores that no decision tells, and features that do. Means and deviations over 20 seeds."""

    def worth(arch):
        return int(hashlib.sha256(str(arch.picks).encode()).hexdigest()[:8], 16) / 2**32

    def features(archs):
        return np.array([[1000 * worth(arch), 7.0] for arch in archs])

    def mean_of_the_last_twenty(**options):
        controller = get_controller("predictor_evolution", space, seed=0, children=30, **options)
        scores = []
        for _ in range(40):
            proposal = controller.ask()
            scores.append(worth(space.canonical(proposal.arch)))
            controller.tell(Outcome(proposal, (scores[-1],)))
        return np.mean(scores[20:])

    check_above("mean with features", mean_of_the_last_twenty(features=features), mean=0.882, sd=0.036)
    check_below("mean without features", mean_of_the_last_twenty(), mean=0.503, sd=0.052)


def test_policy_samples_from_the_distribution_that_it_states(space):
    """The entropy that the policy states equals the mean of -log p over its own samples, within six sigmas."""
    torch.manual_seed(0)
    policy = LSTMPolicy(space, hidden=8)
    with torch.no_grad():
        for parameter in policy.heads.parameters():
            parameter.mul_(8)  # far from uniform, so that a wrong draw would show
        rng = np.random.default_rng(0)
        surprise = np.array([-policy(policy.sample(rng))[0].item() for _ in range(600)])
        entropy = np.array([policy(policy.sample(rng))[1].item() for _ in range(600)])
    error = 6 * np.hypot(surprise.std(), entropy.std()) / np.sqrt(600)
    assert abs(surprise.mean() - entropy.mean()) < error


def test_reinforce_moves_probability_towards_what_scored_above_the_baseline(space):
    controller = get_controller("reinforce", space, seed=0, entropy=0.0)
    good, bad = (space.sample(np.random.default_rng(i)) for i in (1, 2))
    controller.tell(Outcome(Proposal(bad), (0.5,)))
    before = [controller.policy(arch.picks)[0].item() for arch in (good, bad)]
    for _ in range(5):
        controller.tell(Outcome(Proposal(good), (1.0,)))
        controller.tell(Outcome(Proposal(bad), (0.0,)))
    after = [controller.policy(arch.picks)[0].item() for arch in (good, bad)]
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_reinforce_failure_lowers_the_probability_of_the_architecture(space):
    controller = get_controller("reinforce", space, seed=0, entropy=0.0)
    arch = space.sample(np.random.default_rng(1))
    before = controller.policy(arch.picks)[0].item()
    controller.tell(Outcome(Proposal(arch), None))
    assert controller.policy(arch.picks)[0].item() < before


def test_tensors_survive_text_exactly():
    tensors = {"a": torch.randn(3, 4), "b": torch.tensor(7)}
    back = text_to_tensors(tensors_to_text(tensors))
    assert all(torch.equal(tensors[key], back[key]) for key in tensors)
