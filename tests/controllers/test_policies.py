"""The table policy of REINFORCE, and PPO."""

import numpy as np
import pytest
import torch
from bounds import check_below
from controllers_support import Hill, height, run

from controllers import Outcome, Proposal, get_controller
from controllers.policy import LSTMPolicy
from controllers.ppo import clipped
from controllers.table_policy import TablePolicy
from nasbench_registry import UserError
from search_spaces import get_space


def test_table_takes_the_steps_of_autograd_and_adam():
    """Twenty updates with advantages and an entropy bonus; PyTorch does the same from the log-probability alone."""
    space, rng = get_space("nats_size"), np.random.default_rng(0)
    policy = TablePolicy(space, 0.05, np.random.default_rng(1))
    logits = torch.tensor(policy.logits, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.05)
    for _ in range(20):
        arch, advantage = space.sample(rng), float(rng.normal())
        logs = torch.log_softmax(logits, dim=1)
        chosen = logs[torch.arange(len(arch.picks)), list(arch.picks)].sum()
        loss = -advantage * chosen + 0.3 * (logs.exp() * logs).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        policy.ascend(arch.picks, advantage, 0.3)
    np.testing.assert_allclose(policy.logits, logits.detach().numpy(), rtol=0, atol=1e-10)


def test_table_draws_what_it_states():
    """Frequencies of 4,000 draws lie within six standard deviations of the probabilities, option by option."""
    space = get_space("mobile")
    policy, rng = TablePolicy(space, 0.5, np.random.default_rng(1)), np.random.default_rng(0)
    for seed in range(10):
        policy.ascend(space.sample(np.random.default_rng(seed)).picks, 1.0, 0.0)
    draws = np.array([policy.sample(rng) for _ in range(4000)])
    for column, size in enumerate(space.layout.sizes):
        p = policy.probabilities[column, :size]
        assert p.sum() == pytest.approx(1)
        counts = np.bincount(draws[:, column], minlength=size)
        assert len(counts) == size, "an option that does not exist was drawn"
        assert np.all(np.abs(counts - 4000 * p) <= 6 * np.sqrt(4000 * p * (1 - p)) + 1e-9)


def test_table_learns_nothing_about_decisions_that_do_not_matter():
    space = get_space("mobile")
    policy, rng = TablePolicy(space, 0.1, np.random.default_rng(0)), np.random.default_rng(0)
    arch = next(a for a in iter(lambda: space.sample(rng), None) if not all(space.layout.active(a.picks)))
    before = policy.logits.copy()
    policy.ascend(arch.picks, 1.0, 0.1)
    moved = (policy.logits != before).any(axis=1)
    assert moved.tolist() == [
        a and s > 1 for a, s in zip(space.layout.active(arch.picks), space.layout.sizes, strict=True)
    ]


def test_table_starts_near_uniform():
    controller = get_controller("reinforce", Hill(), seed=0, policy="table")
    assert 0 < np.abs(controller.policy.logits).max() < 0.01
    assert controller.policy((0,) * 6)[1] == pytest.approx(6 * np.log(4), abs=1e-4)


def test_reinforce_refuses_an_unknown_policy():
    with pytest.raises(UserError, match=r"unknown policy 'tabel'.*Did you mean 'table'"):
        get_controller("reinforce", Hill(), seed=0, policy="tabel")


def test_lstm_judges_many_architectures_like_each():
    space = get_space("nasbench201")
    torch.manual_seed(0)
    policy = LSTMPolicy(space, hidden=8)
    picks = [space.sample(np.random.default_rng(seed)).picks for seed in range(5)]
    together = policy.many(picks)
    for row, arch_picks in enumerate(picks):
        torch.testing.assert_close(policy(arch_picks)[0], together[0][row])
        torch.testing.assert_close(policy(arch_picks)[1], together[1][row])


@pytest.mark.parametrize(
    ("ratio", "advantage", "slope"),
    [(1.0, 2.0, 2.0), (1.3, 2.0, 0.0), (0.7, 2.0, 2.0), (1.3, -2.0, -2.0), (0.7, -2.0, 0.0)],
)
def test_ppo_gains_nothing_beyond_the_clip(ratio, advantage, slope):
    """Past 1 + clip a good one pulls no further; past 1 - clip a bad one pushes no further; the way back is open."""
    at = torch.tensor(ratio, requires_grad=True)
    clipped(at, torch.tensor(advantage), 0.2).backward()
    assert at.grad.item() == slope


def test_ppo_learns_in_batches_and_from_stored_probabilities():
    controller = get_controller("ppo", Hill(), seed=0, batch=4, epochs=1)
    before = [p.clone() for p in controller.policy.parameters()]
    proposals = [controller.ask() for _ in range(4)]
    for proposal in proposals[:3]:
        controller.tell(Outcome(proposal, (height(proposal.arch),)))
    assert all(torch.equal(a, b) for a, b in zip(before, controller.policy.parameters(), strict=True))
    for picks, stored, _ in controller.waiting:
        assert stored == controller.policy(picks)[0].item()
    controller.tell(Outcome(proposals[3], (height(proposals[3].arch),)))
    assert not all(torch.equal(a, b) for a, b in zip(before, controller.policy.parameters(), strict=True))
    assert not controller.waiting
    assert not controller.proposed


def test_ppo_moves_less_with_a_tighter_clip():
    """After one update with many epochs, the log-probabilities have moved further where the clip allows more."""
    moved = []
    for clip in (0.05, 0.9):
        controller = get_controller("ppo", Hill(), seed=0, clip=clip, epochs=30, entropy=0.0, learning_rate=0.003)
        proposals = run(controller, 7)
        last = controller.ask()
        before = {p.arch: controller.policy(p.arch.picks)[0].item() for p in (*proposals, last)}
        controller.tell(Outcome(last, (height(last.arch),)))
        moved.append(np.mean([abs(controller.policy(a.picks)[0].item() - was) for a, was in before.items()]))
    check_below("moved with the tighter clip, to the other", moved[0] / moved[1], mean=0.07806, sd=0.033, most=1)


def test_ppo_takes_its_own_and_foreign_architectures():
    controller = get_controller("ppo", Hill(), seed=0, batch=2)
    for seed in range(8):
        arch = Hill().sample(np.random.default_rng(seed))
        controller.tell(Outcome(Proposal(arch), (height(arch),)))
    assert not controller.waiting


@pytest.mark.parametrize("options", [{"clip": 1.0}, {"batch": 0}, {"entropy": -1.0}, {"baseline_decay": 1.0}])
def test_ppo_refuses_senseless_options(options):
    with pytest.raises(UserError, match=next(iter(options))):
        get_controller("ppo", Hill(), seed=0, **options)
