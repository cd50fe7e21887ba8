"""Channels are followed through whatever a forward does with them: cut right, or left whole with a reason in words."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasbench_compression import get_step
from nasbench_compression.pruning.plan import merge, zero_cuts
from nasbench_compression.pruning.rounds import Ranking, Round
from nasbench_registry import UserError


class Net(nn.Module):
    """Runs a function of itself and the images on some modules, parameters and buffers."""

    def __init__(self, function, **parts) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def conv(inputs: int, outputs: int, kernel: int = 3, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def mean(x):
    return x.mean((2, 3))


def one_half_gates_the_other(m, x):
    y = m.a(x)
    half = y.shape[1] // 2
    return m.head(mean(y[:, :half] * torch.sigmoid(y[:, half:])))


def computed_sizes(m, x):
    y = m.a(x)
    half = y.shape[1] // 2
    first, second = y.split([half, y.shape[1] - half], 1)
    return m.head(mean(first + second))


def three_chunks(m, x):
    one, two, three = m.a(x).chunk(3, 1)
    return m.head(mean(one * torch.sigmoid(two) + three))


def cells(m, x):
    columns, state = torch.relu(m.a(x)).mean(2), torch.zeros(len(x), 12)
    for place in range(columns.shape[2]):
        state = m.cell(columns[:, :, place], state)
    return m.head(state)


def packed(m, x):
    rows = torch.relu(m.a(x)).mean(2).transpose(1, 2)
    sequence = nn.utils.rnn.pack_padded_sequence(rows, torch.full((len(x),), rows.shape[1]), batch_first=True)
    return m.head(nn.utils.rnn.pad_packed_sequence(m.rnn(sequence)[0], batch_first=True)[0].mean(1))


def dynamic(m, x):
    y = torch.relu(m.a(x))
    gates = torch.softmax(m.route(mean(y)), 1)
    kernels = torch.einsum("ne,eoihw->noihw", gates, m.experts).flatten(0, 1)
    n, channels, height, width = y.shape
    y = functional.conv2d(y.reshape(1, n * channels, height, width), kernels, padding=1, groups=n)
    return m.head(mean(torch.relu(y.view(n, -1, height, width))))


def mixture(m, x):
    y = mean(torch.relu(m.a(x)))
    gates = torch.softmax(m.route(y), 1)
    return m.head(sum(gates[:, number : number + 1] * expert(y) for number, expert in enumerate(m.experts)))


def attention_over_places(m, x):
    query, key, value = (layer(x).flatten(2) for layer in (m.q, m.k, m.v))
    return m.head((torch.softmax(query.transpose(1, 2) @ key, -1) @ value.transpose(1, 2)).mean(1))


RIGHT = {
    "mask of one channel": (
        lambda: Net(
            lambda m, x: m.head(mean(torch.relu(m.a(x)) * torch.sigmoid(m.mask(x)))),
            **{"a": conv(1, 16), "mask": conv(1, 1), "head": nn.Linear(16, 10)},
        ),
        {"a": 16},
    ),
    "scalar weights": (
        lambda: Net(
            lambda m, x: m.head(mean(m.a(x) * m.scale + m.b(x) * torch.relu(m.mix)[0] + m.c(x) * torch.relu(m.mix)[1])),
            **{name: conv(1, 16) for name in "abc"},
            **{"scale": nn.Parameter(torch.ones(1)), "mix": nn.Parameter(torch.ones(2)), "head": nn.Linear(16, 10)},
        ),
        {"a": 16, "b": 16, "c": 16},
    ),
    "concatenated with itself": (
        lambda: Net(
            lambda m, x: m.head(mean(m.b(torch.cat([m.a(x)] * 2, 1)))),
            **{"a": conv(1, 16), "b": conv(32, 16), "head": nn.Linear(16, 10)},
        ),
        {"a": 16, "b": 16},
    ),
    "flipped": (
        lambda: Net(
            lambda m, x: m.head(mean(m.b(m.a(x).flip(1)))),
            **{"a": conv(1, 16), "b": conv(16, 16), "head": nn.Linear(16, 10)},
        ),
        {"a": 16, "b": 16},
    ),
    "first or second half": (
        lambda: Net(one_half_gates_the_other, a=conv(1, 24), head=nn.Linear(12, 10)),
        {"a": 24},
    ),
    "chunks": (lambda: Net(three_chunks, a=conv(1, 24), head=nn.Linear(8, 10)), {"a": 24}),
    "split by computed sizes": (lambda: Net(computed_sizes, a=conv(1, 24), head=nn.Linear(12, 10)), {"a": 24}),
    "gated linear unit": (
        lambda: Net(lambda m, x: m.head(mean(functional.glu(m.a(x), 1))), a=conv(1, 32), head=nn.Linear(16, 10)),
        {"a": 32},
    ),
    "the last eight": (
        lambda: Net(lambda m, x: m.head(mean(m.a(x)[:, -8:])), a=conv(1, 24), head=nn.Linear(8, 10)),
        {"a": 16},  # those before are read by nothing
    ),
    "stacked": (
        lambda: Net(
            lambda m, x: m.head(mean(torch.stack([m.a(x), m.b(x)], 0).amax(0))),
            **{"a": conv(1, 16), "b": conv(1, 16), "head": nn.Linear(16, 10)},
        ),
        {"a": 16, "b": 16},
    ),
    "pixel shuffles": (
        lambda: Net(
            lambda m, x: m.head(mean(m.b(functional.pixel_unshuffle(functional.pixel_shuffle(m.a(x), 4), 2)))),
            **{"a": conv(1, 64), "b": conv(16, 16), "head": nn.Linear(16, 10)},
        ),
        {"a": 64, "b": 16},
    ),
    "channel shuffle": (
        lambda: Net(
            lambda m, x: m.head(mean(m.b(m.shuffle(m.a(x))))),
            **{"a": conv(1, 32), "shuffle": nn.ChannelShuffle(4), "b": conv(32, 16), "head": nn.Linear(16, 10)},
        ),
        {"a": 32, "b": 16},
    ),
    "unfolded": (
        lambda: Net(
            lambda m, x: m.head(m.b(functional.unfold(m.a(x), 2, stride=2).transpose(1, 2)).mean(1)),
            **{"a": conv(1, 8), "b": nn.Linear(32, 16), "head": nn.Linear(16, 10)},
        ),
        {"a": 8, "b": 16},
    ),
    "padded shortcut": (
        lambda: Net(
            lambda m, x: m.head(mean(torch.relu(m.b(y := m.a(x)) + functional.pad(y, (0, 0, 0, 0, 4, 4))))),
            **{"a": conv(1, 16), "b": conv(16, 24), "head": nn.Linear(24, 10)},
        ),
        {"a": 16, "b": 24},  # of which eight are added to padding, and stay
    ),
    "einsum with a bare parameter": (
        lambda: Net(
            lambda m, x: m.head(torch.einsum("nchw,cd->nd", torch.relu(m.a(x)), m.mix)),
            **{"a": conv(1, 16), "mix": weight(16, 20), "head": nn.Linear(20, 10)},
        ),
        {"a": 16},
    ),
    "convolution with bare parameters": (
        lambda: Net(
            lambda m, x: m.head(mean(functional.conv2d(torch.relu(functional.conv2d(m.a(x), m.w, m.b)), m.v))),
            **{"a": conv(1, 16), "w": weight(20, 16, 3, 3), "b": weight(20), "v": weight(12, 20, 1, 1)},
            head=nn.Linear(12, 10),
        ),
        {"a": 16},
    ),
    "depthwise convolution with a bare parameter": (
        lambda: Net(
            lambda m, x: m.head(mean(functional.conv2d(m.a(x), m.w, padding=1, groups=len(m.w)))),
            **{"a": conv(1, 16), "w": weight(16, 1, 3, 3), "head": nn.Linear(16, 10)},
        ),
        {"a": 16},
    ),
    "mixture of experts": (
        lambda: Net(
            mixture,
            **{"a": conv(1, 16), "route": nn.Linear(16, 3), "head": nn.Linear(20, 10)},
            experts=nn.ModuleList(nn.Linear(16, 20) for _ in range(3)),
        ),
        {"a": 16, "experts.0": 20, "experts.1": 20, "experts.2": 20},
    ),
    "buffer that scales": (
        lambda: Net(
            lambda m, x: m.head(mean(m.a(x) * m.scale)),
            **{"a": conv(1, 16), "scale": torch.linspace(1, 2, 16).view(1, 16, 1, 1), "head": nn.Linear(16, 10)},
        ),
        {"a": 16},
    ),
    "attention over places": (
        lambda: Net(attention_over_places, q=conv(1, 16), k=conv(1, 16), v=conv(1, 24), head=nn.Linear(24, 10)),
        {"q": 16, "k": 16, "v": 24},
    ),
    "cells of a recurrent layer": (
        lambda: Net(cells, a=conv(1, 16), cell=nn.GRUCell(16, 12), head=nn.Linear(12, 10)),
        {"a": 16},
    ),
    "packed sequences": (
        lambda: Net(packed, a=conv(1, 16), rnn=nn.LSTM(16, 12, batch_first=True), head=nn.Linear(12, 10)),
        {"a": 16},
    ),
    "norms": (
        lambda: nn.Sequential(
            *(conv(1, 16), nn.InstanceNorm2d(16, affine=True), nn.PReLU(16), conv(16, 24), nn.GroupNorm(4, 24)),
            *(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 20), nn.RMSNorm(20), nn.Linear(20, 10)),
        ),
        {"0": 16, "3": 24, "8": 20},
    ),
    "transposed, grouped and depthwise": (
        lambda: nn.Sequential(
            *(conv(1, 16), nn.ConvTranspose2d(16, 24, 2, 2), nn.ReLU(), nn.ConvTranspose2d(24, 16, 2, 2, groups=4)),
            *(nn.ReLU(), nn.ConvTranspose2d(16, 16, 3, groups=16), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(16, 10),
        ),
        {"0": 16, "1": 24, "3": 16, "5": 16},
    ),
    "one dimension": (
        lambda: nn.Sequential(
            *(nn.Flatten(2), nn.Conv1d(1, 16, 3), nn.BatchNorm1d(16), nn.ReLU(), nn.ConvTranspose1d(16, 24, 3)),
            *(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(24, 10)),
        ),
        {"1": 16, "4": 24},
    ),
    "three dimensions": (
        lambda: nn.Sequential(
            *(nn.Unflatten(1, (1, 1)), nn.Conv3d(1, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU()),
            *(nn.Conv3d(16, 24, 3, padding=1, groups=2), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(24, 10)),
        ),
        {"1": 16, "4": 24},
    ),
    "embedding": (
        lambda: Net(
            lambda m, x: m.head(m.b(m.table((mean(x) * 10).long().clamp(0, 7)).sum(1))),
            **{"table": nn.Embedding(8, 16), "b": nn.Linear(16, 24), "head": nn.Linear(24, 10)},
        ),
        {"b": 24},
    ),
    "hooks": (lambda: hooked(), {"0": 16, "2": 16}),
    "random numbers": (
        lambda: Net(lambda m, x: m.head(mean(m.a(x) * torch.rand(()))), a=conv(1, 16), head=nn.Linear(16, 10)),
        {"a": 16},
    ),
}


def hooked() -> nn.Module:
    network = nn.Sequential(
        conv(1, 16), nn.ReLU(), conv(16, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )
    network[0].register_forward_hook(lambda module, inputs, output: output * 2)
    network[2].register_forward_pre_hook(lambda module, inputs: (inputs[0].tanh(),))
    return network


@pytest.mark.parametrize("name", RIGHT)
def test_channels_are_followed(name, context) -> None:
    make, layers = RIGHT[name]
    torch.manual_seed(0)
    model = make().eval()
    generator = torch.Generator().manual_seed(0)
    ranking = Ranking(
        importance="random", round_to=None, global_ranking=False, exclude=(), heads=False, calibration_images=8
    )
    small = replace(context, calibration=context.calibration[:8], labels=context.labels[:8])
    pruning_round = Round.of(model, small, ranking, generator)
    members = {member for group in pruning_round.groups for member in group.members}
    assert members == set(layers)
    assert {group.layer: group.size * group.share for group in pruning_round.groups}.items() <= layers.items()
    chosen = pruning_round.choose(0.4)
    assert not pruning_round.drop_wrong(chosen)
    pruned = pruning_round.cut(chosen)[0].eval()
    cuts = merge(
        cut for group, removed in zip(pruning_round.groups, chosen, strict=True) for cut in group.without(removed)
    )
    zeroed = make().eval()
    zeroed.load_state_dict(model.state_dict())
    zero_cuts(zeroed, cuts)
    with torch.no_grad():
        outputs = []
        for network in (pruned, zeroed):
            torch.manual_seed(1)
            outputs.append(network(small.calibration))
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4 * outputs[1].abs().max().item())
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in model.parameters())
    _, note = get_step("prune", ratio=0.4).apply(model, small)
    assert json.loads(json.dumps(note, allow_nan=False)) == note


def fixed_sizes(m, x):
    first, second = m.a(x).split([8, 16], 1)
    return m.head(mean(torch.cat([second, first], 1)))


def plain_list() -> nn.Module:
    network = Net(lambda m, x: m.head(mean(m.layers[0](m.a(x)))), a=conv(1, 16), head=nn.Linear(16, 10))
    network.layers = [conv(16, 16)]
    return network


def not_stored() -> nn.Module:
    network = Net(lambda m, x: m.head(mean(m.a(x) * m.scale)), a=conv(1, 16), head=nn.Linear(16, 10))
    network.register_buffer("scale", torch.rand(1, 16, 1, 1), persistent=False)
    return network


WHOLE = {
    "split of fixed sizes": (
        lambda: Net(fixed_sizes, a=conv(1, 24), head=nn.Linear(24, 10)),
        r"at line \d+ of test_prune_follows_operations.py, `first, second = m.a\(x\).split\(\[8, 16\], 1\)`",
    ),
    "the first ten": (
        lambda: Net(lambda m, x: m.head(mean(m.a(x)[:, :10])), a=conv(1, 11), head=nn.Linear(10, 10)),
        "its 11 channels|the code takes those from the first to 10",
    ),
    "one by one": (
        lambda: Net(
            lambda m, x: m.head(torch.stack([y.mean((1, 2)) for y in m.a(x).unbind(1)], 1)),
            **{"a": conv(1, 16), "head": nn.Linear(16, 10)},
        ),
        "the code takes single ones of them",
    ),
    "a buffer of numbers": (
        lambda: Net(
            lambda m, x: m.head(mean(m.a(x)[:, m.order])),
            **{"a": conv(1, 16), "order": torch.arange(16).flip(0), "head": nn.Linear(16, 10)},
        ),
        "the code takes them by number",
    ),
    "a buffer that is not stored": (not_stored, "mul combines them with values whose number does not follow theirs"),
    "softmax": (
        lambda: Net(lambda m, x: m.head(torch.softmax(mean(m.a(x)), 1)), a=conv(1, 16), head=nn.Linear(16, 10)),
        "the operation softmax mixes them",
    ),
    "mean over channels": (
        lambda: Net(
            lambda m, x: m.head(mean(m.a(x) - m.a(x).mean(1, keepdim=True))),
            **{"a": conv(1, 16), "head": nn.Linear(16, 10)},
        ),
        "the operation mean is taken over them",
    ),
    "norm over channels and places": (
        lambda: nn.Sequential(
            conv(1, 16), nn.LayerNorm([16, 8, 8]), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
        ),
        "a norm is taken over them together with other dimensions",
    ),
    "state of a recurrent layer": (
        lambda: Net(
            lambda m, x: m.head((m.rnn(y := m.a(x).mean(2).transpose(1, 2))[0] + y).mean(1)),
            **{"a": conv(1, 16), "rnn": nn.GRU(16, 16, batch_first=True), "head": nn.Linear(16, 10)},
        ),
        "add combines them with values whose number does not follow theirs",
    ),
    "a plain list": (plain_list, "they meet a weight that is no parameter of the network, as in a plain list"),
    "dynamic convolution": (
        lambda: Net(
            dynamic,
            **{"a": conv(1, 12), "experts": weight(3, 16, 12, 3, 3), "route": nn.Linear(12, 3)},
            head=nn.Linear(16, 10),
        ),
        "the operation convolution combines them with values whose number does not follow theirs",
    ),
    "outer product": (
        lambda: Net(
            lambda m, x: m.head(torch.einsum("nchw,ndhw->ncd", m.a(x), m.a(x)).flatten(1)),
            **{"a": conv(1, 4), "head": nn.Linear(16, 10)},
        ),
        "a view puts several dimensions of channels into one",
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_layers_are_left_whole_with_a_reason_in_words(name, context) -> None:
    make, reason = WHOLE[name]
    torch.manual_seed(0)
    with pytest.raises(UserError, match=reason) as caught:
        get_step("prune", ratio=0.4).apply(make().eval(), context)
    assert "Error" not in str(caught.value)
