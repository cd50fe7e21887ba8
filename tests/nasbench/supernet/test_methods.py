"""Each algorithm's update against a plain formula, on losses that are formulas themselves."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nasbench.data.split import Split
from nasbench.supernet.differentiable.beta_darts import BetaDARTS
from nasbench.supernet.differentiable.darts import DARTS
from nasbench.supernet.differentiable.drnas import DrNAS
from nasbench.supernet.differentiable.enas import ENAS
from nasbench.supernet.differentiable.gdas import GDAS
from nasbench.supernet.differentiable.method import Step
from nasbench.training.config import TrainingConfig
from nasbench.training.training import Training
from nasbench_registry import UserError
from search_spaces import Decision, EdgeSpace, get_space

SIGMAS = 6  # of what is drawn; a correct method is farther away once in 5e8 times


class Formula(EdgeSpace):
    """Two edges of three operations; nothing is built."""

    name = "formula"
    decisions = (Decision("a", (0, 1, 2)), Decision("b", (0, 1, 2)))

    def assemble(self, task, edge):
        raise AssertionError("a method never builds a network")


def step_of(method, weights, train, val, rate=0.3, quality=lambda: 0.0):
    """A step in which losses are functions of the weights and of the mixture of both edges."""

    def loss(of):
        mixed = torch.cat([edge.weights for edge in method.weights()])
        return of(weights, mixed)

    return Step(
        train_loss=lambda: loss(train),
        val_loss=lambda: loss(val),
        val_quality=quality,
        parameters=[weights],
        rate=rate,
        updates=lambda gradients: gradients,
    )


def bilevel():
    """Smooth losses of four weights and six numbers of a mixture, in float64."""
    rng = torch.Generator().manual_seed(3)
    matrix, target = torch.randn(4, 6, generator=rng, dtype=torch.float64), torch.randn(4, generator=rng).double()
    weights = nn.Parameter(torch.randn(4, generator=rng, dtype=torch.float64))
    train = lambda w, m: ((w * torch.tanh(matrix @ m) - target) ** 2).sum() + 0.1 * (w**4).sum()  # noqa: E731
    val = lambda w, m: (torch.sin(w) * (matrix @ m)).sum() + (w**2).sum()  # noqa: E731
    return weights, train, val


def doubled(method):
    for alpha in method.alphas:
        alpha.data = alpha.data.double() * 300  # 1e-3 is too near to the middle to tell much
    return method


def gradient(method, step):
    method.gradients(step)
    return torch.cat([alpha.grad for alpha in method.alphas])


def test_darts_of_second_order_is_the_gradient_through_the_step_of_the_weights():
    weights, train, val = bilevel()
    method = doubled(DARTS(Formula(), seed=0, order=2))
    before = weights.detach().clone()
    ours = gradient(method, step_of(method, weights, train, val))
    assert torch.equal(weights, before)

    mixed = torch.cat([edge.weights for edge in method.weights()])
    (inner,) = torch.autograd.grad(train(weights, mixed), [weights], create_graph=True)
    exact = torch.cat(torch.autograd.grad(val(weights - 0.3 * inner, mixed), list(method.alphas)))
    torch.testing.assert_close(ours, exact, rtol=1e-3, atol=1e-5)

    first = gradient(doubled(DARTS(Formula(), seed=0)), step_of(method, weights, train, val))
    assert (first - exact).norm() > 0.1 * exact.norm()  # so the second term was tested


def test_darts_of_first_order_is_the_gradient_of_the_held_back_loss():
    weights, train, val = bilevel()
    method = doubled(DARTS(Formula(), seed=0))
    ours = gradient(method, step_of(method, weights, train, val))
    soft = [torch.softmax(alpha.detach(), 0) for alpha in method.alphas]
    mixed = torch.cat(soft).requires_grad_()
    (outer,) = torch.autograd.grad(val(weights.detach(), mixed), mixed)
    plain = [s * (g - (s * g).sum()) for s, g in zip(soft, outer.split(3), strict=True)]  # of a softmax
    torch.testing.assert_close(ours, torch.cat(plain))


def test_the_step_that_is_looked_ahead_is_that_of_the_optimizer():
    model = nn.Linear(3, 2)
    data = Split(torch.randn(8, 3), torch.randint(2, (8,)))
    config = TrainingConfig(optimizer="sgd", learning_rate=0.1, weight_decay=0.05, batch_size=4, warmup_epochs=0)
    predicted = []

    def look(batch):
        loss = nn.functional.cross_entropy(model(batch.inputs), batch.targets)
        parameters = list(model.parameters())
        gradients = dict(zip(parameters, torch.autograd.grad(loss, parameters), strict=True))
        updates = training.updates(gradients)
        predicted.append([parameter.detach() - training.rate * updates[parameter] for parameter in parameters])
        came.append([parameter.detach().clone() for parameter in parameters])

    came = []
    training = Training(model, data, config, seed=0, epochs=2, before_step=look)
    training.run_epoch()
    training.run_epoch()
    came.append([parameter.detach().clone() for parameter in model.parameters()])
    assert len(predicted) == 4  # of which the first has no momentum yet
    for ahead, after in zip(predicted, came[1:], strict=True):
        torch.testing.assert_close(ahead, after)


def test_beta_darts_adds_lambda_times_the_softmax_of_each_edge():
    weights, train, _ = bilevel()
    method = doubled(BetaDARTS(Formula(), seed=0, strength=50.0))
    step = step_of(method, weights, train, lambda w, m: (0 * m).sum())
    method.begin_epoch(0.0)
    assert float(gradient(method, step).abs().max()) == 0  # lambda rises from 0
    method.begin_epoch(0.4)
    plain = torch.cat([0.4 * 50 / 2 * torch.softmax(alpha.detach(), 0) for alpha in method.alphas])
    torch.testing.assert_close(gradient(method, step), plain)


def test_gdas_computes_one_operation_and_its_gradient_is_that_of_the_soft_sample():
    method = doubled(GDAS(Formula(), seed=0))
    method.begin_epoch(0.9)
    torch.manual_seed(5)
    weights = method.weights()
    torch.manual_seed(5)
    for alpha, edge in zip(method.alphas, weights, strict=True):
        noise = -torch.empty_like(alpha).exponential_().log()
        soft = torch.softmax((torch.log_softmax(alpha, 0) + noise) / 1.09, 0)  # tau at 0.9 of the way from 10 to 0.1
        assert edge.only == int(soft.argmax())
        assert edge.weights.tolist() == pytest.approx(np.eye(3)[edge.only].tolist(), abs=1e-12)
        (ours,) = torch.autograd.grad(7 * edge.weights[edge.only], alpha)
        (plain,) = torch.autograd.grad(7 * soft[edge.only], alpha)
        torch.testing.assert_close(ours, plain)
        assert float(plain.abs().max()) > 0.01


def test_gdas_draws_operations_with_the_probabilities_of_the_softmax_at_any_temperature():
    method = GDAS(Formula(), seed=0)
    method.alphas[0].data = torch.tensor([0.0, 1.0, 2.0])
    expected, draws = torch.softmax(method.alphas[0].data, 0).tolist(), 2000
    for progress in (0.0, 1.0):
        method.begin_epoch(progress)
        torch.manual_seed(1)
        counts = np.bincount([method.weights()[0].only for _ in range(draws)], minlength=3)
        for count, share in zip(counts, expected, strict=True):
            assert abs(count - draws * share) < SIGMAS * math.sqrt(draws * share * (1 - share))


def test_the_gradient_through_a_dirichlet_sample_is_that_of_its_mean():
    """The mean of weight i is c_i / sum(c), and c = elu(beta) + 1; so the mean gradient of a linear loss is known."""
    method = DrNAS(Formula(), seed=0)
    method.alphas[0].data = torch.tensor([-0.5, 0.2, 1.5])
    loss = torch.tensor([1.0, -2.0, 0.5])
    torch.manual_seed(2)
    gradients = torch.stack(
        [torch.autograd.grad((loss * method.weights()[0].weights).sum(), method.alphas[0])[0] for _ in range(3000)]
    )
    c = nn.functional.elu(method.alphas[0]) + 1
    (plain,) = torch.autograd.grad((loss * c / c.sum()).sum(), method.alphas[0])
    error = gradients.std(0) / math.sqrt(len(gradients))
    assert bool(((gradients.mean(0) - plain).abs() < SIGMAS * error).all())
    assert bool((error < 0.1 * plain.abs().max()).all())  # so it is told from zero


def test_the_anchor_of_drnas_is_the_divergence_from_the_uniform_distribution():
    method = DrNAS(Formula(), seed=0, anchor=0.5)
    for alpha, value in zip(method.alphas, ([0.3, 0.0, 1.0], [0.0, 0.0, 0.0]), strict=True):
        alpha.data = torch.tensor(value)
    c = torch.tensor([1.3, 1.0, 2.0])
    total = c.sum()
    plain = (
        torch.lgamma(total)
        - torch.lgamma(c).sum()
        - torch.lgamma(torch.tensor(3.0))
        + ((c - 1) * (torch.digamma(c) - torch.digamma(total))).sum()
    )
    torch.testing.assert_close(method.penalty(), 0.5 * plain)  # the second edge is uniform already
    strengths = method.strengths()["a"]
    assert strengths.tolist() == pytest.approx((c / total).tolist(), rel=1e-5)


def test_enas_learns_what_is_worth_more_and_nothing_where_all_is_worth_the_same():
    space = Formula()

    def preferred(worth):
        method = ENAS(space, seed=0, policy_rate=0.02, hidden=16, samples=60)
        step = Step(None, None, lambda: worth(method.drawn, method.weights()), (), 0.1, None)
        for _ in range(150):
            method.gradients(step)
        derived = method.derive(lambda arch: -abs(sum(arch.picks) - 3))
        return method.strengths()["b"][2], derived

    def good(before, weights):
        return float(weights[1].only == 2)

    learned, derived = preferred(good)
    control, _ = preferred(lambda before, weights: 0.5)
    assert learned > 0.9 > control
    # The best by the shared weights of those that it drew; one of three has this sum, so hardly ever none of 60.
    assert sum(derived.picks) == 3


@pytest.mark.parametrize(
    ("kind", "options", "word"),
    [
        (DARTS, {"order": 3}, "order=3"),
        (BetaDARTS, {"strength": -1.0}, "strength=-1.0"),
        (GDAS, {"coldest": 0.0}, "coldest=0.0"),
        (DrNAS, {"anchor": -0.1}, "anchor=-0.1"),
        (ENAS, {"samples": 0}, "samples=0"),
    ],
)
def test_a_bad_option_is_a_sentence(kind, options, word):
    with pytest.raises(UserError, match=word):
        kind(get_space("nasbench201"), seed=0, **options)
