"""Each importance against numbers worked out by hand for two layers and two images."""

import math
from dataclasses import replace

import pytest
import torch
import torch_pruning as tp
from torch import nn

from nasbench_compression import Context, get_step
from nasbench_compression.pruning.check import Probe
from nasbench_compression.pruning.importances import IMPORTANCES
from nasbench_compression.pruning.rounds import Ranking, Round
from nasbench_registry import UserError

IMAGES = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[:, :, None, None]
LABELS = torch.tensor([0, 1])


def two_layers(*between: nn.Module) -> nn.Sequential:
    """Two input channels, three channels between, two classes; what the three channels read for the two images is
    (1, 4, 2.5) and (2, 0, 2), and the logits are (6, -1.5) and (6, 2)."""
    first, second = nn.Conv2d(2, 3, 1), nn.Linear(3, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]])[:, :, None, None])
        first.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
        second.weight.copy_(torch.tensor([[1.0, 0.0, 2.0], [0.0, -1.0, 1.0]]))
        second.bias.zero_()
    return nn.Sequential(first, *between, nn.ReLU(), nn.Flatten(), second)


def scores(model: nn.Module, importance: str, **changes) -> list[float]:
    context = Context(
        example_inputs=IMAGES, calibration=IMAGES, finetune=None, evaluate=None, seed=0, labels=LABELS
    )  # neither trains nor validates
    context = replace(context, **changes)
    ranking = Ranking(
        importance=importance, round_to=None, global_ranking=False, exclude=(), heads=True, calibration_images=64
    )
    (channel_scores,) = Round.of(model, context, ranking, torch.Generator().manual_seed(0)).scores
    return channel_scores.tolist()


Q = 1 / (1 + math.exp(7.5))  # what the network leaves to the wrong class of the first image
R = 1 / (1 + math.exp(-4))  # and of the second one, where the second channel is zero and passes no gradient

BY_HAND = {
    "l1": [(3 + 1) / 2, (4 + 1) / 2, (0.5 + 3) / 2],
    "l2": [(5 + 1) / 2, (10 + 1) / 2, (0.25 + 5) / 2],
    "lamp": [3 / (3 + 5.5), 5.5 / 5.5, 2.625 / (2.625 + 3 + 5.5)],
    "fpgm": [13**0.5 + 4.25**0.5, 13**0.5 + 7.25**0.5, 4.25**0.5 + 7.25**0.5],
    "activation": [1.5, 2, 2.25],
    # Gradients of a channel: -q, -q, -q for the first image; r, 0, r for the second one. Means of both, times weights.
    "taylor": [
        (Q / 2 * 1) ** 2 + (R / 2 * 2) ** 2,
        (Q / 2 * 3) ** 2 + (Q / 2 * 1) ** 2,
        (Q / 2 * 0.5) ** 2 + ((R - Q) / 2 * 2) ** 2,
    ],
    "obd": [
        (Q**2 / 2 * 1 + R**2 / 2 * 4) / 2,
        (Q**2 / 2 * 9 + Q**2 / 2 * 1) / 2,
        (Q**2 / 2 * 0.25 + (Q**2 + R**2) / 2 * 4) / 2,
    ],
}


@pytest.mark.parametrize("importance", BY_HAND)
def test_agrees_with_numbers_worked_out_by_hand(importance) -> None:
    assert scores(two_layers(), importance) == pytest.approx(BY_HAND[importance], rel=1e-4)


def test_scales_of_a_batch_norm() -> None:
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, -2.0, 0.1]))
    model = two_layers(norm).eval()
    assert scores(model, "bn_scale") == pytest.approx([0.5, 2, 0.1])
    # Scales count as weights that produce the channel, too: their l2 is averaged over three layers now.
    assert scores(model, "l2") == pytest.approx([(6 + 0.25) / 3, (11 + 4) / 3, (5.25 + 0.01) / 3])
    with pytest.raises(UserError, match="bn_scale says nothing of it: no batch norm"):
        context = Context(example_inputs=IMAGES, calibration=IMAGES, finetune=None, evaluate=None, seed=0)
        get_step("prune", ratio=0.4, importance="bn_scale").apply(two_layers(), context)


def test_every_importance_is_tested_here() -> None:
    assert {*BY_HAND, "bn_scale", "random"} == set(IMPORTANCES)


@pytest.mark.parametrize("importance", ["taylor", "obd"])
def test_gradients_need_labels(importance) -> None:
    with pytest.raises(UserError, match="prune, with these options, needs.*give labels: the class index of each"):
        get_step("prune", ratio=0.5, importance=importance).apply(two_layers(), Context(IMAGES, calibration=IMAGES))


def test_taylor_predicts_what_zeroing_a_channel_costs() -> None:
    """To first order, the loss falls by the sum of g w if a weight goes; for channels of tiny effect, it has to."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.Flatten(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[0].weight.mul_(1e-4)
    images, costs = torch.randn(64, 2, 1, 1).double(), []
    labels = torch.arange(64) % 2
    loss = nn.functional.cross_entropy(model(images), labels)
    for channel in range(4):
        trial = nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.Flatten(), nn.Linear(4, 2)).double()
        trial.load_state_dict(model.state_dict())
        with torch.no_grad():
            trial[0].weight[channel] = 0
        costs.append((nn.functional.cross_entropy(trial(images), labels) - loss).item())
    (gradient,) = torch.autograd.grad(loss, [model[0].weight])
    assert costs == pytest.approx((-gradient * model[0].weight).sum((1, 2, 3)).tolist(), rel=1e-2)
    channel_scores = scores(
        model.float(), "taylor", example_inputs=images.float(), calibration=images.float(), labels=labels
    )
    expected = []  # of each batch of 16
    weight = model[0].weight.detach().double()
    for batch, right in zip(images.split(16), labels.split(16), strict=True):
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(batch.float()), right), [model[0].weight])
        expected.append((gradient * weight).pow(2).sum((1, 2, 3)))
    assert channel_scores == pytest.approx(torch.stack(expected).mean(0).tolist(), rel=1e-4)


@pytest.mark.parametrize("power", [1, 2])
def test_norms_are_those_of_torch_pruning(plain, context, power) -> None:
    ranking = Ranking(
        importance=f"l{power}", round_to=None, global_ranking=False, exclude=(), heads=False, calibration_images=1
    )
    generator = torch.Generator().manual_seed(0)
    pruning_round = Round.of(plain, context, ranking, generator)
    probe = Probe(plain, context.example_inputs, generator)
    probe.model.load_state_dict(plain.state_dict())
    graph = tp.DependencyGraph().build_dependency(probe.model.requires_grad_(True), probe.inputs)
    judge = tp.importance.GroupMagnitudeImportance(p=power, normalizer=None)
    assert len(pruning_round.groups) == 4
    for group, mine in zip(pruning_round.groups, pruning_round.scores, strict=True):
        root = probe.model.get_submodule(group.layer)
        pruner = graph.get_pruner_of_module(root)
        theirs = judge(graph.get_pruning_group(root, pruner.prune_out_channels, list(range(group.size))))
        torch.testing.assert_close(mine.float(), theirs.detach(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("importance", sorted(IMPORTANCES))
def test_every_importance_prunes_every_structure(trained, context, importance) -> None:
    step = get_step("prune", ratio=0.4, importance=importance, global_ranking=True, calibration_images=8)
    pruned, note = step.apply(trained, context)
    assert note["missed"] is None
    assert pruned(context.example_inputs).isfinite().all()
