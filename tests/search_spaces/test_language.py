"""Conditions, inner spaces, repeated parts and products."""

import itertools

import numpy as np
import pytest
from torch import nn

from nasbench_registry import UserError
from search_spaces import (
    Decision,
    DecisionSpace,
    ProductSpace,
    SearchSpace,
    Task,
    check_space,
    get_space,
    inside,
    repeated,
)
from search_spaces.nasbench201 import NASBench201


class Recipe(DecisionSpace):
    name = "recipe"
    decisions = (
        Decision("prune", (0.0, 0.3, 0.5)),
        Decision("importance", ("l1", "l2"), when={"prune": (0.3, 0.5)}),
    )


class Backbone(SearchSpace):
    """Stages of convolutions, perhaps a cell of NAS-Bench-201 behind them, perhaps a hidden layer."""

    name = "backbone"
    decisions = (
        Decision("tail", ("none", "cell")),
        *repeated("stage", (1, 2, 3), (Decision("kernel", (1, 3, 5)), Decision("width", (8, 16)))),
        *inside("cell", NASBench201(channels=8, cells=1), when={"tail": "cell"}),
        Decision("head", ("linear", "mlp")),
        Decision("hidden", (8, 16, 32), when={"head": "mlp"}),
    )

    def build(self, arch, task):
        choice, layers, channels = self.choices(arch), [], task.input_shape[0]
        for stage in self.parts(arch, "stage"):
            kernel = stage["kernel"]
            layers += [nn.Conv2d(channels, stage["width"], kernel, padding=kernel // 2), nn.ReLU()]
            channels = stage["width"]
        if choice["tail"] == "cell":
            cell = self.inner(arch, "cell")
            inner = NASBench201(channels=8, cells=1).build(cell, Task((channels, *task.input_shape[1:]), 8))
            layers.append(inner)
            channels = 8
        else:
            layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        if choice["head"] == "mlp":
            layers += [nn.Linear(channels, choice["hidden"]), nn.ReLU()]
            channels = choice["hidden"]
        return nn.Sequential(*layers, nn.Linear(channels, task.classes))


def brute_force(space):
    """Every combination of picks that is its own canonical form."""
    sizes = [len(decision.options) for decision in space.decisions]
    archs = (space.architecture(picks) for picks in itertools.product(*map(range, sizes)))
    return [arch for arch in archs if space.canonical(arch) == arch]


def test_a_hierarchical_space_keeps_the_contract():
    assert check_space(Backbone(), task=Task((3, 9, 9), 4)) == []


def test_choices_hold_what_matters_only():
    space = Backbone()
    arch = space.parse(
        "tail=none,stage_count=2,stage0.kernel=3,stage0.width=8,stage1.kernel=1,stage1.width=16,head=linear"
    )
    assert space.choices(arch)["stage1.width"] == 16
    assert "hidden" not in space.choices(arch) and "cell.1<-0" not in space.choices(arch)
    assert space.parts(arch, "stage") == [{"kernel": 3, "width": 8}, {"kernel": 1, "width": 16}]
    with pytest.raises(UserError, match="part 'cell' of space 'backbone' does not matter"):
        space.inner(arch, "cell")
    with pytest.raises(UserError, match="Did you mean 'cell'"):
        space.inner(arch, "cel")


def test_an_inner_space_keeps_its_own_rules():
    """Two cells that NAS-Bench-201 merges are one architecture of the outer space too."""
    space, cell = Backbone(), NASBench201()
    through = cell.parse("|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|")
    direct = cell.parse("|skip_connect~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2|")
    base = list(space.sample(np.random.default_rng(0)).picks)
    start = [decision.name for decision in space.decisions].index("cell.1<-0")
    archs = []
    for inner in (through, direct):
        picks = [*base[:start], *inner.picks, *base[start + 6 :]]
        picks[0] = 1
        archs.append(space.architecture(picks))
        assert space.inner(archs[-1], "cell") == inner
    assert archs[0] != archs[1]
    assert space.canonical(archs[0]) == space.canonical(archs[1])


def test_the_size_counts_what_matters():
    stages = 6 + 6**2 + 6**3
    assert Backbone().size == (1 + 15_625) * stages * (1 + 3)
    assert Recipe().size == 1 + 2 * 2 == len(brute_force(Recipe()))


class Nested(DecisionSpace):
    name = "nested"
    decisions = (
        Decision("a", (0, 1, 2)),
        Decision("b", (0, 1), when={"a": (1, 2)}),
        Decision("c", (0, 1, 2), when={"b": 1}),
        Decision("d", (0, 1), when={"a": 2, "c": (0, 2)}),
        *inside("recipe", Recipe(), when={"a": 0}),
        Decision("e", (0, 1)),
    )


def test_the_size_of_nested_conditions_is_that_of_the_enumeration():
    space = Nested()
    archs = brute_force(space)
    assert space.size == len(archs) == space.count_distinct()
    assert len({space.format(arch) for arch in archs}) == len(archs)
    assert all(space.parse(space.format(arch)) == arch for arch in archs)


def test_mutation_and_neighbors_change_what_matters():
    space, rng = Nested(), np.random.default_rng(0)
    for arch in brute_force(space):
        neighbors = set(space.neighbors(arch))
        assert all(space.canonical(neighbor) != arch for neighbor in neighbors)
        assert {space.mutate(arch, rng) for _ in range(300)} == neighbors


def test_encoding_ignores_what_does_not_matter():
    space, rng = Backbone(), np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(100)]
    plain = Backbone.decisions[0]
    assert space.one_hot(archs)[:, : len(plain.options)].sum(axis=1).tolist() == [1.0] * 100
    for arch in archs:
        picks = list(arch.picks)
        for position, flag in enumerate(space.layout.active(picks)):
            if not flag:
                picks[position] = 0
        assert np.array_equal(*space.one_hot([arch, space.architecture(picks)]))


def test_active_one_by_one_and_all_at_once():
    space, rng = Nested(), np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(200)]
    many = space.layout.active_many(np.array([arch.picks for arch in archs]))
    assert many.tolist() == [space.layout.active(arch.picks) for arch in archs]


def test_parts_within_parts():
    inner = repeated("layer", (1, 2), (Decision("kernel", (3, 5)),))

    class Deep(DecisionSpace):
        name = "deep"
        decisions = (*repeated("stage", 2, inner), *inside("tail", inside("cell", NASBench201())))

    space = Deep()
    assert [decision.name for decision in space.decisions[:3]] == [
        "stage0.layer_count",
        "stage0.layer0.kernel",
        "stage0.layer1.kernel",
    ]
    assert space.size == (2 + 4) ** 2 * 15_625
    arch = space.sample(np.random.default_rng(0))
    assert space.inner(arch, "tail.cell").space == "nasbench201"
    assert space.canonical(space.canonical(arch)) == space.canonical(arch)


def test_a_product_combines_and_splits():
    network, recipe = NASBench201(channels=8, cells=1), Recipe()
    space = ProductSpace(network, recipe)
    assert space.name == "nasbench201*recipe"
    assert space.size == 15_625 * 5
    assert check_space(space) == []
    arch = space.sample(np.random.default_rng(1))
    first, second = space.split(arch)
    assert space.join((first, second)) == arch
    assert space.format(arch) == f"{network.format(first)} & {recipe.format(second)}"
    assert space.canonical(arch) == space.join((network.canonical(first), recipe.canonical(second)))


def test_a_product_of_a_product_reads_its_own_notation():
    class Other(Recipe):
        name = "other"

    space = ProductSpace(ProductSpace(NASBench201(channels=8, cells=1), Recipe()), Other())
    rng = np.random.default_rng(0)
    for _ in range(50):
        arch = space.sample(rng)
        assert space.canonical(space.parse(space.format(arch))) == space.canonical(arch)


def test_every_architecture_is_sampled_alike():
    """Uniform over the picks: each option of a decision that always matters has its share, within six sigmas."""
    space, rng = Nested(), np.random.default_rng(0)
    count = 3000
    picks = np.array([space.sample(rng).picks for _ in range(count)])
    for option in range(3):
        share = (picks[:, 0] == option).mean()
        assert abs(share - 1 / 3) < 6 * np.sqrt(2 / 9 / count)


def broken(*decisions):
    return type("Broken", (DecisionSpace,), {"name": "broken", "decisions": decisions})().layout


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: broken(Decision("a", (1, 2)), Decision("b", (1,), when={"aa": 1})), "Did you mean 'a'"),
        (lambda: broken(Decision("b", (1,), when={"a": 1}), Decision("a", (1, 2))), "does not come before it"),
        (lambda: broken(Decision("a", (1, 2)), Decision("b", (1,), when={"a": 3})), r"can only be \[1, 2\]"),
        (lambda: broken(Decision("a", (1, 2)), Decision("a", (1,))), "several decisions called a"),
        (lambda: broken(*inside("r", Recipe())[:1]), "do not stand together"),
        (
            lambda: broken(*inside("r", Recipe()), Decision("b", (1,), when={"r.prune": 0.3})),
            "belongs to the inner space 'r'",
        ),
        (lambda: inside("a.b", Recipe()), "without a dot"),
        (lambda: repeated("a", 0, Recipe()), "cannot be repeated 0 times"),
        (lambda: ProductSpace(NASBench201()), "at least two"),
        (lambda: ProductSpace(NASBench201(), Recipe(), Recipe()), "different names"),
        (lambda: ProductSpace(NASBench201(), Recipe()).parse("|none~0|"), "has 1 part"),
        (lambda: get_space("mobile").count_distinct(), "more than 20,000,000 are not counted"),
        (lambda: Recipe().parse("prune=0.0,importance=l1"), "unexpected ',importance=l1'"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
