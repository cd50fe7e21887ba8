"""A pruned network is the network with some channels at zero, without these channels."""

import copy
from dataclasses import replace

import pytest
import torch
from compression_networks import NETWORKS
from torch import nn

from compression import Context, get_step
from compression.pruning.check import OUTPUT, Probe
from compression.pruning.plan import apply_cuts, zero_cuts
from compression.pruning.ranking import ChannelGroup, choose, find_groups
from nasbench_registry import UserError


def zeroed_and_pruned(model: nn.Module, context: Context, ratio: float, importance: str, seed: int):
    """The step's own sequence of cuts, with the network that has zeros in place of the channels beside it."""
    generator = torch.Generator().manual_seed(seed)
    groups, _ = find_groups(model, context.example_inputs, importance, generator)
    chosen = choose(groups, ratio, None, global_ranking=False)
    probe = Probe(model, context.example_inputs, generator)
    pruned = copy.deepcopy(model)
    differences = []
    for group, removed in zip(groups, chosen, strict=True):
        cuts = probe.try_cut(group.layer, group.positions(removed))
        if isinstance(cuts, str):
            continue
        zeroed = copy.deepcopy(pruned)
        zero_cuts(zeroed, cuts)
        apply_cuts(pruned, cuts)
        with torch.no_grad():
            images = context.calibration[:32]
            differences.append((pruned(images) - zeroed(images)).abs().max().item())
    return differences, pruned


@pytest.mark.parametrize(("importance", "seed"), [("l2", 0), ("random", 1), ("random", 2)])
def test_pruned_network_equals_zeroed_network(trained, context, importance, seed) -> None:
    differences, pruned = zeroed_and_pruned(trained, context, 0.1 + 0.3 * seed, importance, seed)
    assert len(differences) >= 2
    assert max(differences) < 1e-4
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


def test_shuffled_channels_are_left_whole_with_a_reason(_trained, context) -> None:
    for importance in ("l2", "random"):
        pruned, note = get_step("prune", ratio=0.4, importance=importance).apply(_trained("shuffle"), context)
        assert set(note["left_out"]) == {"stem.0", "units.0.branch.5", "units.1.branch.5"}
        assert all(len(reason) > 20 for reason in note["left_out"].values())
        assert pruned.stem[0].out_channels == 24
        assert pruned.units[0].branch[0].out_channels == pruned.units[0].branch[3].groups == 7


class Reversed(nn.Module):
    """Reverses channels between two convolutions, which no dependency graph of element-wise operations can see."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3)
        self.second = nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.second(torch.relu(self.first(x)).flip(1)).relu().mean((2, 3)))


def test_a_wrong_cut_is_found_by_its_numbers(context) -> None:
    torch.manual_seed(0)
    _, note = get_step("prune", ratio=0.5).apply(Reversed(), context)
    assert "changes the output" in note["left_out"]["first"]
    assert note["layers"]["second"]["channels"] == [8, 4]


class FixedView(nn.Module):
    """Its forward has the number of channels written into it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.first(x).view(len(x), 8, 36).mean(2))


def test_nothing_to_prune_says_why(context) -> None:
    with pytest.raises(UserError, match="first: the network fails without these channels"):
        get_step("prune", ratio=0.5).apply(FixedView(), context)


def test_head_is_known_by_what_it_does(plain, context) -> None:
    probe = Probe(plain, context.example_inputs, torch.Generator().manual_seed(0))
    assert probe.try_cut("classifier", [0]) == OUTPUT
    assert not isinstance(probe.try_cut("hidden", [0, 3]), str)


def test_a_trial_leaves_the_probe_as_it_was(_trained, context) -> None:
    probe = Probe(_trained("shuffle"), context.example_inputs, torch.Generator().manual_seed(0))
    state = {name: value.clone() for name, value in probe.model.state_dict().items()}
    sizes = str(probe.model)
    for layer in ("stem.0", "units.0.branch.0", "units.1.branch.5", "classifier"):
        probe.try_cut(layer, [0, 5], keep=False)
        assert str(probe.model) == sizes
        assert all(torch.equal(value, state[name]) for name, value in probe.model.state_dict().items())
    assert probe.model(probe.inputs).shape == (2, 10)
    assert not isinstance(probe.try_cut("units.0.branch.0", [0, 5]), str)
    assert probe.model.units[0].branch[0].out_channels == 10


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
    differences, pruned = zeroed_and_pruned(model, context, 0.5, "l2", 0)
    assert len(differences) == 2 and max(differences) < 1e-5
    assert pruned.scale.shape == pruned.shift.shape == (1, 8, 1, 1)
    made, note = get_step("prune", ratio=0.5).apply(model, context)
    restored = get_step("prune", ratio=0.5).restore(Bare(), note)
    restored.load_state_dict(made.state_dict(), strict=True)
    torch.testing.assert_close(restored(context.calibration), made(context.calibration))


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


def test_attention_is_left_whole_and_what_is_beside_it_is_cut(context) -> None:
    torch.manual_seed(0)
    pruned, note = get_step("prune", ratio=0.5).apply(Tokens(), context)
    assert pruned.up.out_features == pruned.down.in_features == 24
    assert pruned.attention.embed_dim == pruned.patches.out_channels == 24
    assert {"patches", "down"} <= set(note["left_out"])


def test_one_image_and_one_channel_are_no_list_of_arguments(plain, context) -> None:
    single = replace(context, example_inputs=context.example_inputs[:1])
    one, _ = get_step("prune", ratio=0.4).apply(plain, single)
    many, _ = get_step("prune", ratio=0.4).apply(plain, context)
    assert [p.shape for p in one.parameters()] == [p.shape for p in many.parameters()]


def group(scores, channels=None, blocks=1) -> ChannelGroup:
    return ChannelGroup(
        layer="a",
        members=("a",),
        channels=channels or len(scores),
        blocks=blocks,
        scores=torch.tensor(scores, dtype=torch.float64),
    )


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
    (removed,) = choose([group(list(range(channels)))], ratio, round_to, global_ranking=False)
    assert channels - len(removed) == kept
    assert removed == list(range(channels - kept))  # scores rise, so the first ones go


def test_blocks_lose_the_same_positions() -> None:
    made = group([0.5, 0.1, 0.9, 0.2], channels=12, blocks=3)
    (removed,) = choose([made], 0.5, None, global_ranking=False)
    assert made.positions(removed) == [1, 3, 5, 7, 9, 11]
    (removed,) = choose([made], 0.5, 4, global_ranking=False)
    assert (12 - len(made.positions(removed))) % 12 == 0


def test_global_ranking_takes_more_from_flat_layers_and_leaves_a_floor() -> None:
    flat, peaked = group([1.0] * 20), group([0.01] * 10 + [2.0] * 10)
    removed = choose([flat, peaked], 0.25, None, global_ranking=True)
    assert [len(r) for r in removed] == [0, 10]
    removed = choose([flat, peaked], 0.97, None, global_ranking=True)
    assert [len(r) for r in removed] == [18, 18]


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
    assert context.evaluate(tuned) > context.evaluate(without)
    assert context.evaluate(tuned) > context.evaluate(model) - 3


def test_networks_cover_what_they_claim() -> None:
    kinds = {name: {type(m).__name__ for m in make().modules()} for name, make in NETWORKS.items()}
    assert "SqueezeExcite" in kinds["residual"] and "ShuffleUnit" in kinds["shuffle"]
