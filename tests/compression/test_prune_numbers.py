"""Numbers that a block keeps of its convolutions follow when these are cut, and come back from the note."""

import json

import pytest
import torch
from torch import nn

from nasbench_compression import Context, get_step
from nasbench_compression.reparameterization import reparameterize


class Mixed(nn.Module):
    """Two kernels, each on its part of the channels, as in MixNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.splits = [channels // 2, channels // 2]
        self.small = nn.Conv2d(channels // 2, channels // 2, 3, padding=1)
        self.large = nn.Conv2d(channels // 2, channels // 2, 5, padding=2)

    def forward(self, x):
        first, second = torch.split(x, self.splits, 1)
        return torch.cat([self.small(first), self.large(second)], 1)


class Branches(nn.Module):
    """A convolution beside the identity, which become one convolution for deployment, as in MobileOne."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_chs = channels
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(x) + x

    def reparameterize(self):
        merged = nn.Conv2d(self.in_chs, self.in_chs, 3, padding=1)
        with torch.no_grad():
            merged.weight.copy_(self.conv.weight)
            merged.bias.copy_(self.conv.bias)
            for channel in range(self.in_chs):
                merged.weight[channel, channel, 1, 1] += 1
        return merged


@pytest.mark.parametrize(("block", "number"), [(Mixed, "splits"), (Branches, "in_chs")])
def test_numbers_follow(block, number) -> None:
    torch.manual_seed(0)

    def built() -> nn.Module:
        head = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))
        return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), block(16), *head).eval()

    network, images = built(), torch.randn(2, 3, 8, 8)
    step = get_step("prune", ratio=0.5)
    pruned, note = step.apply(network, Context(images))
    assert note["left_out"] == {}
    layers = [layer for layer in pruned[2].children()]
    kept = [layer.in_channels for layer in layers]
    assert sum(kept) == 8 == pruned[0].out_channels
    assert getattr(pruned[2], number) == (kept if block is Mixed else kept[0])
    restored = step.restore(built(), json.loads(json.dumps(note)))
    restored.load_state_dict(pruned.state_dict())
    assert getattr(restored[2], number) == getattr(pruned[2], number)
    assert type(getattr(restored[2], number)) is type(getattr(network[2], number))
    torch.testing.assert_close(restored(images), pruned(images), rtol=0, atol=0)
    torch.testing.assert_close(reparameterize(pruned)(images), pruned(images), rtol=1e-5, atol=1e-5)
