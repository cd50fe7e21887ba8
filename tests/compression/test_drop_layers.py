"""Blocks that are dropped are residual, change little, and leave a network of the same shapes."""

import json

import pytest
import torch
from compression_networks import NETWORKS
from torch import nn

from nasbench_compression import get_step
from nasbench_compression.pruning.layers import residual_blocks
from nasbench_registry import UserError


class Body(nn.Module):
    def __init__(self, channels: int, last: bool) -> None:
        super().__init__()
        self.body, self.last = (
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)),
            last,
        )

    def forward(self, x):
        return torch.relu(x + self.body(x)) if self.last else x + self.body(x)


def deep() -> nn.Sequential:
    """Four residual blocks of one width, two of them nested in a stage; between them, things that are none."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()),
        nn.Sequential(Body(8, last=True), Body(8, last=True)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)),
        *(Body(8, last=False), nn.Identity(), Body(8, last=False)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)),
    )


@pytest.fixture
def model() -> nn.Module:
    """The blocks change their input more and more, in an order that is not theirs."""
    torch.manual_seed(0)
    network = deep().eval()
    with torch.no_grad():
        for name, factor in (("2.0", 0.3), ("2.1", 0.01), ("5", 1.0), ("7", 0.1)):
            network.get_submodule(name).body[1].weight.fill_(factor)
    return network


def test_residual_blocks_are_known_by_what_they_do(model, context) -> None:
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert residual_blocks(model, context.example_inputs) == ["2.0", "2.1", "5", "7"]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    residual, shuffle = NETWORKS["residual"](), NETWORKS["shuffle"]()
    assert residual_blocks(residual, context.example_inputs) == ["blocks.0", "blocks.2"]
    assert residual_blocks(shuffle, context.example_inputs) == []


def test_what_changes_least_goes_first(model, context) -> None:
    short, note = get_step("drop_layers", count=3).apply(model, context)
    assert list(note["dropped"]) == ["2.1", "7", "2.0"]
    assert list(note["dropped"].values()) == sorted(note["dropped"].values())
    assert note["blocks"] == [4, 1]
    assert note["macs"][1] == note["macs"][0] - 3 * 8 * 8 * 9 * 64
    restored = get_step("drop_layers", count=3).restore(deep().eval(), json.loads(json.dumps(note)))
    restored.load_state_dict(short.state_dict(), strict=True)
    images = context.calibration[:8]
    assert torch.equal(restored(images), short(images))


def test_influence_is_one_minus_the_cosine_similarity_by_hand(context) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), Body(2, last=False), nn.Flatten(), nn.Linear(2 * 64, 10)).eval()
    with torch.no_grad():  # the block turns (1, 0) into (1, 1) everywhere
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([1.0, 0.0]))
        model[1].body[0].weight.zero_()
        model[1].body[0].bias.zero_()
        model[1].body[1].bias.copy_(torch.tensor([0.0, 1.0]))
    _, note = get_step("drop_layers", count=1).apply(model, context)
    assert note["dropped"] == {"1": pytest.approx(1 - 0.5**0.5)}


def test_accuracy_decides_if_it_is_asked(_trained, context) -> None:
    model = _trained("residual")
    short, note = get_step("drop_layers", ratio=0.5, importance="accuracy").apply(model, context)
    ((name, cost),) = note["dropped"].items()
    assert cost == pytest.approx(context.evaluate(model) - context.evaluate(short))
    other_name = ({"blocks.0", "blocks.2"} - {name}).pop()
    rest = get_step("drop_layers", count=2, importance="accuracy").restore(model, {"dropped": [other_name]})
    assert context.evaluate(rest) <= context.evaluate(short)


def test_more_than_there_are_is_refused(model, context) -> None:
    with pytest.raises(UserError, match="drop 5 of 4 residual blocks"):
        get_step("drop_layers", count=5).apply(model, context)
    with pytest.raises(UserError, match="drop 0 of 4 residual blocks"):
        get_step("drop_layers", ratio=0.1).apply(model, context)
    for options in ({}, {"count": 1, "ratio": 0.5}):
        with pytest.raises(UserError, match="needs the option 'count' or the option 'ratio'"):
            get_step("drop_layers", **options)
