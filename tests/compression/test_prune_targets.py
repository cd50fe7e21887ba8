"""What pruning is asked for, and what it reaches: shares, multiply-adds, parameters, latency; rounds, names, heads."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from nasbench_compression import Recipe, get_step
from nasbench_compression.macs import count_macs
from nasbench_compression.pruning.shapes import with_shapes
from nasbench_compression.step import count_parameters
from nasbench_registry import UserError


@pytest.fixture(scope="module")
def wide() -> nn.Module:
    """Enough channels that single ones are less than a hundredth of anything."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU()),
        *(nn.Conv2d(48, 96, 3, stride=2, padding=1), nn.BatchNorm2d(96), nn.ReLU()),
        *(nn.Conv2d(96, 96, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10)),
    ).eval()


@pytest.mark.parametrize("global_ranking", [False, True])
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize(
    ("option", "value"), [("ratio", 0.35), ("macs_ratio", 0.6), ("max_macs", 2e6), ("max_params", 4e4)]
)
def test_targets_are_reached(wide, context, option, value, iterations, global_ranking) -> None:
    step = get_step("prune", **{option: value}, iterations=iterations, global_ranking=global_ranking, importance="l1")
    pruned, note = step.apply(wide, context)
    before, after = (count_macs(network, context.example_inputs) for network in (wide, pruned))
    assert note["macs"] == [before, after]
    assert note["params"] == [count_parameters(wide), count_parameters(pruned)]
    kept = sum(pruned[index].out_channels for index in (0, 3, 6))
    reached = {
        "ratio": 1 - kept / 240,
        "macs_ratio": 1 - after / before,
        "max_macs": after,
        "max_params": count_parameters(pruned),
    }[option]
    assert reached == pytest.approx(value, rel=0.02)
    assert not option.startswith("max_") or reached <= value
    assert note["target"] == {option: value} and note["reached"] == {option: pytest.approx(reached)}
    assert note["missed"] is None
    assert len(note["rounds"]) == iterations and max(note["rounds"]) - min(note["rounds"]) < 0.1 + global_ranking


def test_rounds_train_in_between_and_rank_anew(plain, context) -> None:
    trained = []

    def finetune(model, loss=None, *, epochs, learning_rate=None, on_batch=None) -> None:
        trained.append((epochs, count_parameters(model)))
        with torch.no_grad():  # turns the order of the channels around
            model.features[0].weight.div_(model.features[0].weight.pow(2).sum((1, 2, 3), keepdim=True))

    step = get_step("prune", ratio=0.5, iterations=2, epochs=3)
    pruned, note = step.apply(plain, replace(context, finetune=finetune))
    assert [epochs for epochs, _ in trained] == [3, 3]
    assert count_parameters(plain) > trained[0][1] > trained[1][1] == count_parameters(pruned)
    assert note["rounds"] == pytest.approx([1 - 0.5**0.5] * 2, abs=0.01)
    restored = with_shapes(plain, json.loads(json.dumps(note))["shapes"])
    restored.load_state_dict(pruned.state_dict(), strict=True)


def test_latency_is_measured_seldom_and_kept(wide, context) -> None:
    measured = []

    def latency_ms(model) -> float:
        measured.append(count_parameters(model))
        return 1 + measured[-1] / 40_000

    limit = 1 + 0.4 * (count_parameters(wide) / 40_000)
    step = get_step("prune", max_latency_ms=limit)
    pruned, note = step.apply(wide, replace(context, latency_ms=latency_ms))
    assert note["latency_ms"][1] == 1 + count_parameters(pruned) / 40_000 <= limit
    assert len(measured) <= 10
    with pytest.raises(UserError, match="give latency_ms"):
        step.apply(wide, context)


def test_limits_that_are_kept_already_or_cannot_be(wide, context) -> None:
    with pytest.raises(UserError, match=r"max_params is 1e\+09, and the network has \d+ already"):
        get_step("prune", max_params=1e9).apply(wide, context)
    with pytest.raises(UserError, match="max_macs is 10, but .* are left"):
        get_step("prune", max_macs=10).apply(wide, context)
    _, note = get_step("prune", macs_ratio=0.9998).apply(wide, context)
    assert 0.99 < note["reached"]["macs_ratio"] < 0.9998 and "macs are left, not" in note["missed"]
    with pytest.raises(UserError, match="exactly one of ratio, macs_ratio"):
        get_step("prune", ratio=0.5, max_macs=100)


def test_excluded_layers_keep_their_channels(_trained, context) -> None:
    model = _trained("residual")
    pruned, note = get_step("prune", ratio=0.5, exclude=["blocks.1.project", "*.excite.reduce"]).apply(model, context)
    assert pruned.blocks[1].project[0].out_channels == 24
    assert pruned.blocks[1].project[0].in_channels < 48
    assert [block.excite.reduce.out_channels for block in pruned.blocks] == [12, 12, 18]
    assert pruned.stem[0].out_channels == 8
    assert "is excluded" in note["left_out"]["blocks.1.project.0"]
    assert "blocks.1.project.0 keeps its channels" in note["left_out"]["blocks.2.project.0"]
    with pytest.raises(UserError, match="fits no module.*Did you mean 'blocks.1'"):
        get_step("prune", ratio=0.5, exclude=["block.1"]).apply(model, context)


class Attention(nn.Module):
    """As in timm: queries, keys and values from one layer, in this order, then head by head."""

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, head_dim
        self.qkv, self.proj = nn.Linear(width, 3 * heads * head_dim), nn.Linear(heads * head_dim, width)

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(n, t, self.num_heads * self.head_dim))


class Separate(nn.Module):
    """Queries, keys and values from three layers."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.query, self.key, self.value = (nn.Linear(width, heads * head_width) for _ in range(3))
        self.out = nn.Linear(heads * head_width, width)

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = (
            layer(x).view(n, t, self.heads, self.head_width).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y = torch.softmax(q @ k.transpose(2, 3) / self.head_width**0.5, 3) @ v
        return self.out(y.transpose(1, 2).reshape(n, t, -1))


class Tokens(nn.Module):
    def __init__(self, make) -> None:
        super().__init__()
        self.patches, self.norm, self.last = nn.Conv2d(1, 24, 2, 2), nn.LayerNorm(24), nn.LayerNorm(24)
        self.attention = make(24, 4, 6)
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(self.norm(tokens))
        return self.head(self.last(tokens).mean(1))


@pytest.mark.parametrize("importance", ["l2", "fpgm", "taylor", "activation"])
@pytest.mark.parametrize("kind", [Attention, Separate])
def test_attention_heads_go_as_wholes(context, kind, importance) -> None:
    torch.manual_seed(0)
    model = Tokens(kind).eval()
    last = model.attention.proj if kind is Attention else model.attention.out
    with torch.no_grad():  # what nothing reads is what should go
        last.weight.zero_()
        last.weight[:, 6:18] = 1
        for layer in model.attention.children():
            if layer is not last:
                heads = layer.weight.view(-1, 4, 6, 24)
                heads[:, [0, 3]] = 1e-3
                layer.bias.view(-1, 4, 6)[:, [0, 3]] = 0
    step = get_step("prune", ratio=0.5, heads=True, exclude=["patches"], importance=importance)
    pruned, note = step.apply(model, context)
    assert note["channels"] == [24, 12]
    assert (pruned.attention.num_heads if kind is Attention else pruned.attention.heads) == 2
    images = context.calibration[:8]
    torch.testing.assert_close(pruned(images), model(images), atol=1e-5, rtol=0)
    restored = step.restore(Tokens(kind).eval(), json.loads(json.dumps(note)))
    restored.load_state_dict(pruned.state_dict(), strict=True)
    assert torch.equal(restored(images), pruned(images))
    _, note = get_step("prune", ratio=0.5).apply(model, context)
    producers = ["attention.qkv"] if kind is Attention else [f"attention.{key}" for key in ("query", "key", "value")]
    assert all("set heads to remove some" in note["left_out"][name] for name in producers)


class Normalized(nn.Module):
    """Channels that are normalized over, in one group and in two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.groups, self.second = nn.Conv2d(1, 16, 3), nn.GroupNorm(2, 16), nn.Conv2d(16, 12, 1)
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 10)

    def forward(self, x):
        x = self.second(torch.relu(self.groups(self.first(x))))
        return self.head(self.norm(x.permute(0, 2, 3, 1)).mean((1, 2)))


def test_layers_that_normalize_over_channels_normalize_over_those_left(context) -> None:
    torch.manual_seed(0)
    pruned, note = get_step("prune", ratio=0.5).apply(Normalized(), context)
    assert note["left_out"] == {}
    assert pruned.first.out_channels == pruned.groups.num_channels == 8 and pruned.groups.num_groups == 2
    assert pruned.norm.normalized_shape == (6,)
    assert pruned(context.example_inputs).isfinite().all()


class DeadEnd(nn.Module):
    """A layer runs, and nothing reads what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.dead, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 1), nn.Linear(8, 10)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        self.dead(x)
        return self.head(x.mean((2, 3)))


def test_layers_that_nothing_reads_shrink_along(context) -> None:
    torch.manual_seed(0)
    pruned, note = get_step("prune", ratio=0.5).apply(DeadEnd(), context)
    assert note["left_out"] == {}
    assert pruned.stem.out_channels == pruned.dead.in_channels == 4


def test_the_example_of_the_documentation_runs(capsys) -> None:
    text = (Path(__file__).parents[2] / "docs/pruning.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(example, {})  # our own text
    assert "macs_ratio" in capsys.readouterr().out
    (recipe,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    steps = Recipe.parse(yaml.safe_load(recipe)["recipe"]).steps
    assert [step.name for step in steps] == ["drop_layers", "prune", "quantize", "compile"]
