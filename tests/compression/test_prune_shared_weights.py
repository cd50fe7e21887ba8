"""Weights that several modules share, modules under several names, and lists of weights that a module keeps itself."""

import json

import pytest
import torch
from awkward import IMAGES, context, outputs
from torch import nn

from nasbench_compression import get_step
from nasbench_compression.pruning.check import Probe
from nasbench_compression.pruning.groups import find_groups
from nasbench_registry import UserError


class Tied(nn.Module):
    """Two convolutions with one weight, one block under two names, run three times, and a linear layer that is tied."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.a, self.b = nn.Conv2d(24, 24, 3, padding=1), nn.Conv2d(24, 24, 3, padding=1)
        self.b.weight = self.a.weight
        self.block = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.again = self.block
        self.up, self.same = nn.Linear(24, 24), nn.Linear(24, 24)
        self.same.weight = self.up.weight
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.a(x)) + torch.relu(self.b(x))
        x = self.again(self.block(self.block(x))).mean((2, 3))
        return self.head(torch.relu(self.up(x)) + self.same(x))


@pytest.mark.parametrize("importance", ["l2", "taylor", "activation"])
def test_what_is_shared_stays_shared(importance) -> None:
    torch.manual_seed(0)
    network = Tied().eval()
    options = {"ratio": 0.5, "importance": importance, "epochs": 1, "learning_rate": 1e-3, "iterations": 2}
    pruned, note = get_step("prune", **options).apply(network, context())
    restored = get_step("prune", **options).restore(Tied().eval(), json.loads(json.dumps(note)))
    for model in (pruned, restored):
        assert model.a.weight is model.b.weight and model.block is model.again and model.up.weight is model.same.weight
        assert model.a.out_channels == model.b.out_channels == model.stem.out_channels == 12
        assert model.a.weight.shape == (12, 12, 3, 3)
    assert note["left_out"] == {}
    restored.load_state_dict(pruned.state_dict(), strict=True)
    assert torch.equal(outputs(restored), outputs(pruned))


class Apart(nn.Module):
    """Two layers with one weight that read, and make, different channels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 16, 3), nn.Conv2d(3, 16, 3)
        self.first, self.second = nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3)
        self.second.weight = self.first.weight
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        maps = torch.relu(self.first(self.one(x).relu())), torch.relu(self.second(self.other(x).relu()))
        return self.head(torch.cat(maps, 1).mean((2, 3)))


def test_layers_that_share_a_weight_lose_the_same_channels() -> None:
    torch.manual_seed(0)
    network = Apart().eval()
    pruned, note = get_step("prune", ratio=0.5).apply(network, context())
    assert note["left_out"] == {} and note["channels"] == [32, 16]
    assert pruned.first.weight is pruned.second.weight and pruned.first.weight.shape == (8, 8, 3, 3)
    assert pruned.head.in_features == 16


def test_a_second_name_is_a_name() -> None:
    torch.manual_seed(0)
    for name in ("block", "again.*"):
        _, note = get_step("prune", ratio=0.5, exclude=[name]).apply(Tied().eval(), context())
        assert note["left_out"]["block.0"] == "it is excluded"
    _, note = get_step("sparsify", sparsity=0.5, exclude=["again"]).apply(Tied().eval(), context())
    assert note["left_alone"]["block.0"] == "'again' excludes it"
    with pytest.raises(UserError, match="fits no module"):
        get_step("prune", ratio=0.5, exclude=["once"]).apply(Tied().eval(), context())


class Recurrent(nn.Module):
    def __init__(self, kind, **options) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 32, 3)
        self.recurrent = kind(32, 24, batch_first=True, **options)
        self.head = nn.Linear(48 if options.get("bidirectional") else 24, 5)

    def forward(self, x):
        rows = self.second(torch.relu(self.norm(self.first(x)))).mean(2).transpose(1, 2)
        return self.head(self.recurrent(rows)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_what_a_recurrent_layer_reads_shrinks(kind, options) -> None:
    torch.manual_seed(0)
    network = Recurrent(kind, **options).eval()
    pruned, note = get_step("prune", ratio=0.5).apply(network, context())
    assert note["left_out"] == {}
    assert pruned.recurrent.input_size == pruned.second.out_channels == 16
    assert pruned.recurrent.weight_ih_l0.shape[1] == 16 and pruned.recurrent.hidden_size == 24
    pruned.train()(IMAGES).sum().backward()
    assert pruned.recurrent.weight_ih_l0.grad is not None
    restored = get_step("prune", ratio=0.5).restore(Recurrent(kind, **options).eval(), json.loads(json.dumps(note)))
    restored.load_state_dict(pruned.state_dict(), strict=True)
    assert torch.equal(outputs(restored), outputs(pruned))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_trial_is_undone_also_in_lists_that_a_module_keeps(kind) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    probe = Probe(Recurrent(kind).eval(), IMAGES[:1], generator)
    with torch.no_grad():
        before = probe.model(probe.inputs)
        groups, left_out = find_groups(probe, generator)
        assert [group.layer for group in groups] == ["first", "second"] and left_out == {}
        assert torch.equal(probe.model(probe.inputs), before)
    weights = [getattr(probe.model.recurrent, name) for name in probe.model.recurrent._flat_weights_names]
    assert all(
        flat_weight is weight for flat_weight, weight in zip(probe.model.recurrent._flat_weights, weights, strict=True)
    )
