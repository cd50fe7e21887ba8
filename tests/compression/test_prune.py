"""A pruned network is the network with some channels at zero, without these channels."""

import copy
from dataclasses import replace

import pytest
import torch
from compression_networks import NETWORKS
from torch import nn

from nasbench_compression import Context, get_step
from nasbench_compression.pruning.check import Probe
from nasbench_compression.pruning.coupling import OUTPUT
from nasbench_compression.pruning.groups import ChannelGroup, find_groups
from nasbench_compression.pruning.plan import Cut, merge, zero_cuts
from nasbench_compression.pruning.ranking import choose
from nasbench_compression.pruning.rounds import Ranking, Round
from nasbench_registry import UserError


def find(model: nn.Module, context: Context, importance: str = "l2", seed: int = 0, *, heads: bool = False) -> Round:
    ranking = Ranking(
        importance=importance,
        round_to=None,
        global_ranking=False,
        exclude=(),
        heads=heads,
        calibration_images=8,
    )
    return Round.of(model, context, ranking, torch.Generator().manual_seed(seed))


def zeroed_and_pruned(model: nn.Module, context: Context, ratio: float, importance: str, seed: int):
    """What the step cuts, with the network that has zeros in place of the channels beside it."""
    pruning_round = find(model, context, importance, seed)
    chosen = pruning_round.choose(ratio)
    assert not pruning_round.drop_wrong(chosen)
    cuts = merge(
        cut for group, removed in zip(pruning_round.groups, chosen, strict=True) for cut in group.without(removed)
    )
    zeroed, pruned = copy.deepcopy(model).eval(), pruning_round.cut(chosen)[0].eval()
    zero_cuts(zeroed, cuts)
    with torch.no_grad():
        images = context.calibration[:32]
        return len(pruning_round.groups), (pruned(images) - zeroed(images)).abs().max().item(), pruned


@pytest.mark.parametrize(("importance", "seed"), [("l2", 0), ("random", 1), ("random", 2)])
def test_pruned_network_equals_zeroed_network(trained, context, importance, seed) -> None:
    groups, difference, pruned = zeroed_and_pruned(trained, context, 0.1 + 0.3 * seed, importance, seed)
    assert groups >= 2
    assert difference < 1e-4
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in trained.parameters())


@pytest.mark.parametrize(("importance", "global_ranking"), [("l1", False), ("l2", True), ("random", True)])
def test_every_structure_still_trains_after_pruning(trained, context, importance, global_ranking) -> None:
    step = get_step("prune", ratio=0.5, importance=importance, global_ranking=global_ranking)
    pruned, note = step.apply(trained, context)
    assert note["params"][1] == sum(p.numel() for p in pruned.parameters()) < note["params"][0]
    pruned.train()(context.example_inputs).sum().backward()
    assert all(parameter.grad is not None for parameter in pruned.parameters())
    assert pruned(context.example_inputs).shape == (4, 10)


def test_share_and_sizes_of_the_note_are_those_of_the_network(plain, context) -> None:
    pruned, note = get_step("prune", ratio=0.25).apply(plain, context)
    for name, layer in note["layers"].items():
        module = pruned.get_submodule(name)
        assert layer["channels"][1] == len(module.weight)
        assert layer["params"][1] == sum(p.numel() for p in module.parameters())
    assert note["layers"]["features.3"]["channels"] == [32, 24]
    assert note["layers"]["classifier"]["channels"] == [10, 10]
    assert note["left_out"] == {}


def test_coupled_layers_keep_the_same_channels(_trained, context) -> None:
    pruned, note = get_step("prune", ratio=0.4).apply(_trained("residual"), context)
    assert note["left_out"] == {}
    block = pruned.blocks[0]
    assert pruned.stem[0].out_channels == block.project[0].out_channels < 16
    assert block.expand[0].out_channels == block.depthwise[0].groups == block.excite.expand.out_channels < 48
    assert pruned.grouped[0].groups == 4
    assert pruned.grouped[0].in_channels % 4 == pruned.grouped[0].out_channels % 4 == 0


def test_shuffled_channels_go_in_units_that_keep_the_halves_equal(_trained, context) -> None:
    """Position i of 24 is in a half of the first unit, then in a half of the second one: i, i + 6, i + 12, i + 18."""
    pruned, note = get_step("prune", ratio=0.34).apply(_trained("shuffle"), context)
    assert note["left_out"] == {}
    assert pruned.stem[0].out_channels == pruned.final[0].in_channels == 16
    for unit in pruned.units:
        assert unit.branch[0].in_channels == unit.branch[5].out_channels == 8
        assert unit.branch[0].out_channels == unit.branch[3].groups == 8


class Deep(nn.Module):
    """So many units of ShuffleNet that halves of halves of 24 channels are not whole any more."""

    def __init__(self) -> None:
        super().__init__()
        units = (type(NETWORKS["shuffle"]().units[0])(24) for _ in range(4))
        self.stem, self.units = nn.Conv2d(1, 24, 3), nn.Sequential(*units)
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        return self.head(self.units(self.stem(x)).mean((2, 3)))


def test_channels_that_are_shuffled_too_often_are_left_whole_with_a_reason(context) -> None:
    torch.manual_seed(0)
    pruned, note = get_step("prune", ratio=0.4).apply(Deep(), context)
    assert set(note["left_out"]) == {"stem", *(f"units.{unit}.branch.5" for unit in range(4))}
    assert all(len(reason) > 20 for reason in note["left_out"].values())
    assert pruned.stem.out_channels == 24
    assert {unit.branch[0].out_channels for unit in pruned.units} <= {7, 8}


class Reversed(nn.Module):
    """Reverses channels between two convolutions, and looks at zero as if it were something."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(inputs, 8, 3) for inputs in (1, 8, 8))
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = self.second(torch.relu(self.first(x)).flip(1)).exp()
        return self.head(self.third(x).relu().mean((2, 3)))


def test_a_wrong_cut_is_found_by_its_numbers(context) -> None:
    torch.manual_seed(0)
    model = Reversed()
    _, note = get_step("prune", ratio=0.5).apply(model, context)
    assert set(note["left_out"]) == {"second"}
    assert "changes the output" in note["left_out"]["second"]
    assert [note["layers"][name]["channels"] for name in ("first", "third")] == [[8, 4], [8, 4]]
    groups, difference, _ = zeroed_and_pruned(model, context, 0.5, "l2", 0)
    assert groups == 2 and difference < 1e-5


class FixedView(nn.Module):
    """Its forward has the number of channels written into it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.first(x).view(len(x), 8, 36).mean(2))


def test_nothing_to_prune_says_why(context) -> None:
    where = r"first: the network fails without some of them, at line \d+ of test_prune.py, `return.*view"
    with pytest.raises(UserError, match=where):
        get_step("prune", ratio=0.5).apply(FixedView(), context)


def test_the_layer_that_gives_the_output_is_known(plain, context) -> None:
    generator = torch.Generator().manual_seed(0)
    probe = Probe(plain, context.example_inputs, generator)
    groups, left_out = find_groups(probe, generator)
    assert [group.layer for group in groups] == ["features.0", "features.3", "features.6", "hidden"] and left_out == {}
    (hidden,) = (group for group in groups if group.layer == "hidden")
    assert probe.why_wrong(hidden.without([0, 3])) is None
    handler = next(cut.handler for cut in hidden.cuts if cut.name == "hidden")
    classifier = Cut(name="classifier", handler=handler, channels=(0,), produces=True, roots=(0,))
    assert probe.why_wrong([classifier]) == OUTPUT


def test_a_trial_leaves_the_probe_as_it_was(_trained, context) -> None:
    generator = torch.Generator().manual_seed(0)
    probe = Probe(_trained("shuffle"), context.example_inputs, generator)
    state = {name: value.clone() for name, value in probe.model.state_dict().items()}
    sizes = str(probe.model)
    group = next(group for group in find_groups(probe, generator)[0] if group.layer == "units.0.branch.0")
    (reads,) = (cut for cut in group.cuts if cut.name == "units.0.branch.5")
    accepted: list = []
    assert set(probe.accept([group.without([0, 5]), [replace(reads, channels=(1,), roots=(1,))]], accepted)) == {1}
    assert {cut.name for cut in accepted} >= {"units.0.branch.0", "units.0.branch.3", "units.0.branch.5"}
    with probe.cut(merge(accepted)) as network:
        assert network.units[0].branch[0].out_channels == 10
    assert str(probe.model) == sizes
    assert all(torch.equal(value, state[name]) for name, value in probe.model.state_dict().items())
    assert probe.model(probe.inputs).shape == (2, 10)


class Bare(nn.Module):
    """Bare parameters that scale and shift channels, and layers of a squeeze that are linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3)
        self.reduce, self.expand = nn.Linear(16, 8), nn.Linear(8, 16)
        self.scale = nn.Parameter(torch.full((1, 16, 1, 1), 0.5))
        self.shift = nn.Parameter(torch.randn(1, 16, 1, 1))
        self.head = nn.Conv2d(16, 10, 1)

    def forward(self, x):
        x = self.stem(x)
        weights = torch.sigmoid(self.expand(torch.relu(self.reduce(x.mean((2, 3))))))
        return self.head(x * weights.view(len(x), -1, 1, 1) * self.scale + self.shift).mean((2, 3))


def test_bare_parameters_are_cut_along(context) -> None:
    torch.manual_seed(0)
    model = Bare()
    groups, difference, pruned = zeroed_and_pruned(model, context, 0.5, "l2", 0)
    assert groups == 2 and difference < 1e-5
    assert pruned.scale.shape == pruned.shift.shape == (1, 8, 1, 1)
    compressed, note = get_step("prune", ratio=0.5).apply(model, context)
    restored = get_step("prune", ratio=0.5).restore(Bare(), note)
    restored.load_state_dict(compressed.state_dict(), strict=True)
    torch.testing.assert_close(restored(context.calibration), compressed(context.calibration))


class Tokens(nn.Module):
    """One block of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(1, 24, 2, 2), nn.LayerNorm(24)
        self.attention = nn.MultiheadAttention(24, 3, batch_first=True)
        self.up, self.down, self.head = nn.Linear(24, 48), nn.Linear(48, 24), nn.Linear(24, 10)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        normal = self.norm(tokens)
        tokens = tokens + self.attention(normal, normal, normal, need_weights=False)[0]
        return self.head((tokens + self.down(torch.nn.functional.gelu(self.up(tokens)))).mean(1))


def test_attention_of_torch_is_left_whole_and_what_is_beside_it_is_cut(context) -> None:
    torch.manual_seed(0)
    pruned, note = get_step("prune", ratio=0.5, heads=True).apply(Tokens(), context)
    assert pruned.up.out_features == pruned.down.in_features == 24
    assert pruned.attention.embed_dim == pruned.patches.out_channels == 24
    assert {"patches", "down"} <= set(note["left_out"])


def test_one_image_and_one_channel_are_no_list_of_arguments(plain, context) -> None:
    single = replace(context, example_inputs=context.example_inputs[:1])
    one, _ = get_step("prune", ratio=0.4).apply(plain, single)
    many, _ = get_step("prune", ratio=0.4).apply(plain, context)
    assert [p.shape for p in one.parameters()] == [p.shape for p in many.parameters()]


def group(channels: int, blocks: int = 1) -> ChannelGroup:
    return ChannelGroup(layer="a", members=("a",), size=channels // blocks, blocks=blocks)


def chosen(groups, scores, ratio, round_to=None, **options) -> list[list[int]]:
    tensors = [torch.tensor(values, dtype=torch.float64) for values in scores]
    return choose(groups, tensors, ratio, round_to, **{"global_ranking": False, **options})


@pytest.mark.parametrize(
    ("channels", "ratio", "round_to", "kept"),
    [
        (16, 0.4, 8, 8),
        (32, 0.4, 8, 16),
        (32, 0.3, 8, 24),
        (12, 0.5, 8, 8),
        (8, 0.5, 8, 8),
        (8, 0.9, None, 1),
        (10, 0.25, 1, 8),
    ],
)
def test_what_is_kept_is_rounded_to_the_nearest_multiple(channels, ratio, round_to, kept) -> None:
    (removed,) = chosen([group(channels)], [list(range(channels))], ratio, round_to)
    assert channels - len(removed) == kept
    assert removed == list(range(channels - kept))  # scores rise, so the first ones go


def test_rounding_of_single_layers_leaves_the_share_of_all() -> None:
    groups = [group(channels) for channels in (7, 9, 13, 24, 24, 40)]
    scores = [list(range(channel_group.size)) for channel_group in groups]
    for ratio in (0.1, 0.15, 0.45, 0.77):
        removed = sum(len(positions) for positions in chosen(groups, scores, ratio))
        assert abs(removed - 117 * ratio) <= 0.5
    rounded = chosen([group(24)] * 5, [list(range(24))] * 5, 0.45, 8)  # 16 of 24, five times, would be a third
    assert sum(len(positions) for positions in rounded) == 56
    assert {len(positions) for positions in rounded} == {8, 16}


def test_blocks_lose_the_same_positions() -> None:
    channel_group, scores = group(12, blocks=3), [[0.5, 0.1, 0.9, 0.2]]
    (removed,) = chosen([channel_group], scores, 0.5)
    assert removed == [1, 3] and channel_group.share * len(removed) == 6
    (removed,) = chosen([channel_group], scores, 0.5, 4)
    assert (12 - channel_group.share * len(removed)) % 12 == 0


def test_global_ranking_takes_more_from_flat_layers_and_leaves_a_floor() -> None:
    groups, scores = [group(20), group(20)], [[1.0] * 20, [0.01] * 10 + [2.0] * 10]
    assert [len(r) for r in chosen(groups, scores, 0.25, global_ranking=True)] == [0, 10]
    assert [len(r) for r in chosen(groups, scores, 0.97, global_ranking=True)] == [18, 18]
    # Half of the second group is far below its mean; numbers that may be compared as they are say otherwise.
    scores = [[0.5] * 20, [0.6] * 10 + [3.0] * 10]
    assert [len(r) for r in chosen(groups, scores, 0.25, global_ranking=True)] == [0, 10]
    assert [len(r) for r in chosen(groups, scores, 0.25, global_ranking=True, comparable=True)] == [10, 0]


def test_random_importance_depends_on_the_seed(plain, context) -> None:
    def weights(seed: int) -> torch.Tensor:
        step = get_step("prune", ratio=0.5, importance="random")
        return step.apply(plain, replace(context, seed=seed))[0].features[0].weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_finetuning_recovers_accuracy(_trained, context) -> None:
    model = _trained("plain")
    without, _ = get_step("prune", ratio=0.5).apply(model, context)
    tuned, _ = get_step("prune", ratio=0.5, epochs=3).apply(model, context)
    lost_without, lost = (context.evaluate(model) - context.evaluate(pruned) for pruned in (without, tuned))
    assert lost < lost_without / 2


def test_networks_cover_what_they_claim() -> None:
    kinds = {name: {type(m).__name__ for m in make().modules()} for name, make in NETWORKS.items()}
    assert "SqueezeExcite" in kinds["residual"] and "ShuffleUnit" in kinds["shuffle"]
