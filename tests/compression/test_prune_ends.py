"""Networks on whose dependencies pruning never ended: the work is bounded by the size of the network."""

import pytest
import torch
from torch import nn

from nasbench_compression import get_step
from nasbench_compression.pruning.check import Probe
from nasbench_compression.pruning.coupling import follow
from nasbench_compression.pruning.groups import find_groups
from nasbench_compression.reparameterization import reparameterize


class Mixed(nn.Module):
    """As in MixNet (Tan & Le 2019, arXiv:1907.09595): each half through a depthwise convolution of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.half = half
        self.small = nn.Conv2d(half, half, 3, padding=1, groups=half)
        self.large = nn.Conv2d(half, half, 5, padding=2, groups=half)
        self.expand, self.project = nn.Conv2d(channels, 2 * channels, 1), nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x):
        first, second = torch.split(x, [self.half, self.half], dim=1)
        return x + self.project(torch.relu(self.expand(torch.cat([self.small(first), self.large(second)], 1))))


class Partial(nn.Module):
    """As in ReXNet (Han et al. 2021, arXiv:2007.00992): the shortcut covers the first channels of a wider map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.channels = nn.Conv2d(channels, channels + 8, 3, padding=1), channels

    def forward(self, x):
        y = self.conv(x)
        return torch.cat([y[:, : self.channels] + x, y[:, self.channels :]], 1)


def network(kind: str, depth: int) -> nn.Module:
    torch.manual_seed(0)
    blocks = [Mixed(32) if kind == "mixed" else Partial(32 + 8 * index) for index in range(depth)]
    outputs = 32 if kind == "mixed" else 32 + 8 * depth
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(outputs, 10))
    return nn.Sequential(nn.Conv2d(1, 32, 3, 2, 1), *blocks, *head).eval()


@pytest.mark.parametrize(("kind", "depth"), [("mixed", 1), ("mixed", 4), ("partial", 3), ("partial", 8)])
def test_what_can_be_cut_is_cut(kind, depth, context) -> None:
    pruned, note = get_step("prune", ratio=0.3).apply(network(kind, depth), context)
    if kind == "mixed":  # the halves have their size written into the code, what is between them has not
        assert set(note["left_out"]) == {
            "0",
            *(f"{block}.{name}" for block in range(1, depth + 1) for name in ("small", "large", "project")),
        }
        assert "self.half" in note["left_out"]["0"]
        assert pruned[1].expand.out_channels == pruned[1].project.in_channels < 64
    else:  # the last channels of the last block are in no shortcut
        assert pruned[depth].conv.out_channels < 32 + 8 * depth
        assert note["left_out"]["0"] == "the code takes those from the first to 32"
    assert pruned(context.example_inputs).isfinite().all()


@pytest.mark.parametrize("kind", ["mixed", "partial"])
def test_work_grows_with_the_network_and_no_cut_is_tried_twice(kind, context, monkeypatch) -> None:
    labels, trials = [], []
    for depth in (2, 4, 8):
        generator = torch.Generator().manual_seed(0)
        probe = Probe(network(kind, depth), context.example_inputs, generator)
        tried = []
        why_wrong = probe.why_wrong
        monkeypatch.setattr(
            probe, "why_wrong", lambda cuts, tried=tried, ask=why_wrong: (tried.append(str(cuts)), ask(cuts))[1]
        )
        groups, left_out = find_groups(probe, generator)
        assert len(set(tried)) == len(tried) <= 2 * (len(groups) + len(left_out)) + 1
        labels.append(len(follow(probe.model, probe.inputs).components.of))
        trials.append(len(tried))
    # Twice the blocks, at most somewhat more than twice the labels: the partial ones grow wider, too.
    assert labels[2] < 4 * labels[1] < 16 * labels[0]
    assert trials[2] <= 3 * trials[1] + 3


class Merges(nn.Module):
    """Two branches that become one convolution; it keeps how many groups they have, as blocks of timm do."""

    def __init__(self, channels: int, groups: int, keeps: bool) -> None:
        super().__init__()
        self.one, self.other = (nn.Conv2d(channels, channels, 3, padding=1, groups=groups) for _ in range(2))
        self.kept = [groups] if keeps else []

    def forward(self, x):
        return self.one(x) + self.other(x)

    def reparameterize(self) -> nn.Module:
        inputs, groups = self.one.in_channels, self.kept[0] if self.kept else self.one.groups
        merged = nn.Conv2d(inputs, self.one.out_channels, 3, padding=1, groups=groups)
        with torch.no_grad():
            merged.weight.copy_(self.one.weight + self.other.weight)
            merged.bias.copy_(self.one.bias + self.other.bias)
        return merged


@pytest.mark.parametrize("keeps", [False, True])
def test_a_pruned_network_still_merges_for_deployment(keeps, context) -> None:
    torch.manual_seed(0)
    parts = (nn.Conv2d(1, 16, 3), Merges(16, 16, keeps), nn.ReLU(), nn.Conv2d(16, 12, 1), nn.ReLU())
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10)).eval()
    pruned, note = get_step("prune", ratio=0.5).apply(model, context)
    assert pruned[3].out_channels == 6
    assert pruned[0].out_channels == (16 if keeps else 8)
    if keeps:
        assert "branches cannot be merged for deployment without some of them" in note["left_out"]["0"]
    merged = reparameterize(pruned)
    torch.testing.assert_close(merged(context.example_inputs), pruned(context.example_inputs), rtol=1e-4, atol=1e-4)


class Small(nn.Module):
    """A shortcut over two layers beside each other, the second of which makes the least important channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.large, self.small = (nn.Conv2d(inputs, outputs, 1) for inputs, outputs in SIZES)
        self.head = nn.Linear(24, 10)
        with torch.no_grad():
            self.stem.weight[18:] *= 1e-3
            self.small.weight *= 1e-3

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + torch.cat([self.large(x), self.small(x)], 1)).mean((2, 3)))


SIZES = ((1, 24), (24, 18), (24, 6))


@pytest.mark.parametrize("options", [{"ratio": 0.5}, {"macs_ratio": 0.8}, {"max_params": 250}], ids=str)
def test_no_layer_of_a_group_is_left_without_channels(options, context) -> None:
    pruned, note = get_step("prune", **options).apply(Small().eval(), context)
    assert note["left_out"] == {}
    assert pruned.small.out_channels == 1 < pruned.large.out_channels
    assert pruned.stem.out_channels == pruned.large.out_channels + 1


class Least(nn.Module):
    """Bears no fewer than ten channels of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(1, 24, 3), nn.Conv2d(24, 24, 3), nn.Linear(24, 10)

    def forward(self, x):
        x = torch.relu(self.a(x))
        if x.shape[1] < 10:
            raise ValueError("too few channels")
        return self.head(torch.relu(self.b(x)).mean((2, 3)))


def test_a_network_that_fails_with_few_channels_keeps_those_of_that_layer(context) -> None:
    pruned, note = get_step("prune", macs_ratio=0.85).apply(Least().eval(), context)
    assert (pruned.a.out_channels, list(note["left_out"])) == (24, ["a"]) and pruned.b.out_channels < 12
    assert "raise ValueError" in note["left_out"]["a"]
