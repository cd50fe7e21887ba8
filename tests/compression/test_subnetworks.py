"""The networks inside a trained one."""

import numpy as np
import pytest
import torch
from torch import nn

from nasbench_compression import Context
from nasbench_compression.copying import copy_network
from nasbench_compression.pruning.plan import merge, zero_cuts
from nasbench_compression.subnetworks import Divisible
from nasbench_registry import UserError
from search_spaces import Task, get_space
from search_spaces.fresh_model import fresh_model

IMAGES = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """Coupled and grouped convolutions, a block that may be missing, and a linear layer behind a flattened map."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = Block(8)
        self.wide = nn.Sequential(nn.Conv2d(8, 12, 1), nn.Conv2d(12, 12, 3, groups=12), nn.BatchNorm2d(12), nn.ReLU())
        self.hidden = nn.Linear(12 * 4, 10)
        self.head = nn.Linear(10, 5)

    def forward(self, x):
        x = self.wide(self.body(self.stem(x)))
        return self.head(torch.relu(self.hidden(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, width, 1)
        )

    def forward(self, x):
        return x + self.inner(x)


def network(seed=0):
    torch.manual_seed(seed)
    model = Residual()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean), nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def transformer():
    space = get_space("vit")
    return fresh_model(space, space.architecture([0] * len(space.decisions)), Task((3, 12, 12), 5), 0).eval()


@pytest.mark.parametrize("make", [network, transformer])
def test_it_computes_what_the_whole_network_does_with_its_channels_zero(make):
    whole = make()
    divisible = Divisible.of(whole, Context(IMAGES[:1]))
    rng = np.random.default_rng(1)
    kept = {group.layer: int(rng.integers(1, group.size + 1)) * group.share for group in divisible.groups}
    part = divisible.subnetwork(kept)
    zeroed = copy_network(divisible.model)
    cuts = []
    for group, scores in zip(divisible.groups, divisible.scores, strict=True):
        cuts += group.without(group.least(scores, group.size - kept[group.layer] // group.share))
    zero_cuts(zeroed, merge(cuts))
    with torch.no_grad():
        assert torch.allclose(part.network(IMAGES), zeroed(IMAGES), atol=1e-5)
    assert sum(p.numel() for p in part.network.parameters()) < sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize("make", [network, transformer])
def test_values_are_where_the_positions_say(make):
    whole = make()
    divisible = Divisible.of(whole, Context(IMAGES[:1]))
    part = divisible.subnetwork({group.layer: max(1, group.size // 2) * group.share for group in divisible.groups})
    tensors = dict(whole.named_parameters()) | dict(whole.named_buffers())
    for name, tensor in part.network.named_parameters():
        assert torch.equal(part.positions[name].take(tensors[name]), tensor), name
    for name, tensor in part.network.named_buffers():
        if tensor.ndim and tensor.is_floating_point():
            assert torch.equal(part.positions[name].take(tensors[name]), tensor), name


def test_narrower_networks_are_parts_of_wider_ones():
    divisible = Divisible.of(network(), Context(IMAGES[:1]))

    def values(share):
        kept = {group.layer: max(1, int(share * group.size)) * group.share for group in divisible.groups}
        part = divisible.subnetwork(kept)
        numbers = torch.arange(divisible.model.hidden.weight.numel()).view_as(divisible.model.hidden.weight)
        return set(part.positions["hidden.weight"].take(numbers).flatten().tolist())

    assert values(0.25) < values(0.5) < values(1.0)


def test_blocks_are_left_out():
    whole = network()
    divisible = Divisible.of(whole, Context(IMAGES[:1]))
    assert divisible.blocks == ("body",)
    assert [divisible.block_of(group) for group in divisible.groups if group.layer == "body.inner.0"] == ["body"]
    without = divisible.subnetwork({}, ["body"]).network
    whole.body = nn.Identity()
    with torch.no_grad():
        assert torch.equal(without(IMAGES), whole(IMAGES))


def test_what_is_not_there_is_refused():
    divisible = Divisible.of(network(), Context(IMAGES[:1]))
    with pytest.raises(UserError, match=r"'tail' is no group of channels of this network; it has stem\.0"):
        divisible.subnetwork({"tail": 3})
    with pytest.raises(UserError, match="'stem' is no block that may be missing; there are body"):
        divisible.subnetwork({}, ["stem"])


def test_a_network_that_cannot_be_cut_is_refused():
    single = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 5))
    with pytest.raises(UserError, match="no channels and no residual blocks that may be missing"):
        Divisible.of(single, Context(IMAGES[:1]))
