"""Shared weights of any space."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import nasbench as nb
from nasbench.supernet.correlation import Agreement, agreement
from nasbench.supernet.sampling import extremes
from nasbench.supernet.shared import shared_names
from nasbench_registry import UserError


class Own(nb.SearchSpace):
    """A space of a user's own, which knows nothing of shared weights."""

    name = "own"
    decisions = (
        nb.Decision("width", (4, 8, 12)),
        nb.Decision("kernel", (1, 3)),
        nb.Decision("deep", (False, True)),
        nb.Decision("split", (1, 4), when={"deep": True}),
    )

    def build(self, arch, task):
        chosen = self.choices(arch)
        width, kernel = chosen["width"], chosen["kernel"]
        layers = [nn.Conv2d(task.input_shape[0], width, kernel, padding=kernel // 2), nn.BatchNorm2d(width), nn.ReLU()]
        if chosen["deep"]:
            layers += [nn.Conv2d(width, width, 3, padding=1, groups=chosen["split"]), nn.ReLU()]
        body = nn.Sequential(*layers)
        return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, task.classes))


class Nothing(Own):
    """Networks that have no parameter at the same place."""

    name = "nothing"
    decisions = (nb.Decision("at", tuple(range(60))),)

    def build(self, arch, task):
        skipped = [nn.Identity() for _ in range(self.choices(arch)["at"])]
        inputs = int(np.prod(task.input_shape))
        return nn.Sequential(nn.Flatten(), *skipped, nn.Linear(inputs, task.classes))


def arch_of(space, **chosen):
    return space.architecture(
        [decision.options.index(chosen.get(decision.name, decision.options[0])) for decision in space.decisions]
    )


def parameters(supernet, arch):
    member = supernet.make_member(arch)
    return dict(member.fill(supernet.weights).named_parameters())


def test_smaller_networks_are_leading_slices_and_the_middle_of_kernels(digits):
    supernet = nb.share(Own(), digits)
    small = parameters(supernet, arch_of(supernet.space, width=4, kernel=1))
    large = parameters(supernet, arch_of(supernet.space, width=12, kernel=3))
    assert torch.equal(small["0.0.weight"], large["0.0.weight"][:4, :, 1:2, 1:2])
    assert torch.equal(small["3.weight"], large["3.weight"][:, :4])
    assert supernet.space.choices(supernet.largest) == {"width": 12, "kernel": 3, "deep": True, "split": 1}
    assert supernet.space.choices(supernet.smallest) == {"width": 4, "kernel": 1, "deep": False}


def test_kernels_may_have_weights_of_their_own_and_groups_do(digits):
    supernet = nb.share(Own(), digits, kernels="separate")
    small = parameters(supernet, arch_of(supernet.space, width=4, kernel=1))
    large = parameters(supernet, arch_of(supernet.space, width=4, kernel=3))
    assert not torch.equal(small["0.0.weight"], large["0.0.weight"][..., 1:2, 1:2])
    space = supernet.space
    keys = [
        shared_names(space.build(arch_of(space, width=8, deep=True, split=split), digits.task), "shared")[
            "0.3.weight"
        ].key
        for split in (1, 4)
    ]
    assert keys[0] != keys[1], "a grouped convolution computes something else than one without groups"


def transformers():
    return nb.get_space(
        "vit", embeddings=(16, 24), depths=(1, 2), heads=(1, 2), mlp_ratios=(2,), head_width=8, patch=None
    )


def test_smaller_transformers_have_the_first_heads_and_the_first_channels(digits):
    """Queries, keys and values are one matrix, of which the first rows alone would be the queries of all heads."""
    supernet = nb.share(transformers(), digits, networks=40)
    space = supernet.space
    small, large = (parameters(supernet, space.parse(text)) for text in ("e16-d1-h1-m2", "e24-d1-h2-m2"))
    heads = large["2.attention.qkv.weight"].view(3, 2 * 8, 24)
    assert torch.equal(small["2.attention.qkv.weight"].view(3, 8, 16), heads[:, :8, :16])
    assert torch.equal(small["2.attention.qkv.bias"].view(3, 8), large["2.attention.qkv.bias"].view(3, 16)[:, :8])
    for name in ("1.class_token", "1.positions"):
        assert torch.equal(small[name], large[name][..., :16]), name


def test_the_first_values_are_those_of_the_largest_network_also_in_parts(digits):
    supernet = nb.share(transformers(), digits, networks=40)
    largest = supernet.untrained(supernet.largest, 0)
    for name, value in parameters(supernet, supernet.largest).items():
        assert torch.equal(value, dict(largest.named_parameters())[name]), name


class Attention(Own):
    """Attention of torch, whose three matrices are one parameter."""

    name = "attention"
    decisions = (nb.Decision("width", (4, 8)),)

    def build(self, arch, task):
        return Attended(self.choices(arch)["width"], task)


class Attended(nn.Module):
    def __init__(self, width, task):
        super().__init__()
        self.stem = nn.Linear(task.input_shape[-1], width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.head = nn.Linear(width, task.classes)

    def forward(self, x):
        tokens = self.stem(x.flatten(1, 2))
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))


def test_attention_of_torch_is_three_matrices(digits):
    supernet = nb.share(Attention(), digits, networks=5)
    small, large = (parameters(supernet, arch_of(supernet.space, width=width)) for width in (4, 8))
    whole = large["attention.in_proj_weight"].view(3, 8, 8)
    assert torch.equal(small["attention.in_proj_weight"].view(3, 4, 4), whole[:, :4, :4])


@pytest.mark.parametrize("sampling", ["uniform", "fair", "sandwich", "progressive"])
def test_training_is_seeded_and_goes_on_after_a_kill(digits, sampling, tmp_path):
    def killed(done):
        raise KeyboardInterrupt

    whole, resumed = nb.share(Own(), digits, seed=1), nb.share(Own(), digits, seed=1)
    whole.train(epochs=2, seed=3, sampling=sampling)
    with pytest.raises(KeyboardInterrupt):
        nb.share(Own(), digits, seed=1).train(epochs=2, seed=3, sampling=sampling, folder=tmp_path, on_epoch=killed)
    resumed.train(epochs=2, seed=3, sampling=sampling, folder=tmp_path)
    for name, value in whole.weights.state_dict().items():
        assert torch.equal(value, resumed.weights.state_dict()[name]), name
    loaded = nb.load_supernet(tmp_path, space=Own(), problem=digits)
    arch = whole.sample(1)[0]
    assert loaded.score(arch) == whole.score(arch)


@pytest.mark.parametrize("space", [lambda: nb.get_space("nats_size"), transformers], ids=["nats_size", "vit"])
def test_an_extracted_network_and_the_supernet_come_back_by_their_space(digits, space, tmp_path):
    supernet = nb.share(space(), digits, networks=5)
    model = supernet.extract(supernet.smallest)
    loaded = nb.load(model.save(tmp_path / "model"))
    assert torch.equal(loaded.network(digits.examples(3)), model.network(digits.examples(3)))
    stored = nb.load_supernet(supernet.save(tmp_path / "supernet"))
    assert stored.space.decisions == supernet.space.decisions
    assert stored.score(supernet.smallest) == supernet.score(supernet.smallest)


class Forgetful(Own):
    """It does not keep its argument in an attribute, so nobody knows how it was made."""

    name = "forgetful"

    def __init__(self, widths=(4, 8)):
        self.decisions = (nb.Decision("width", tuple(widths)), *Own.decisions[1:])


def test_a_space_that_cannot_be_made_again_is_never_stored_as_another_one(digits, tmp_path):
    supernet = nb.share(Forgetful((8, 16)), digits, networks=5)
    extracted = supernet.extract(supernet.smallest)
    assert extracted.predict(digits.examples(2)).shape == (2, 10)
    with pytest.raises(UserError, match="cannot be saved by itself"):
        extracted.save(tmp_path / "model")
    folder = supernet.save(tmp_path / "supernet")
    with pytest.raises(UserError, match="of another space than this 'forgetful'"):
        nb.load_supernet(folder)
    assert nb.load_supernet(folder, space=Forgetful((8, 16))).largest == supernet.largest
    with pytest.raises(UserError, match="of another space than this 'own'"):
        nb.load_supernet(folder, space=Own())


def test_bad_input_is_refused(digits):
    with pytest.raises(UserError, match="no two of 5 networks of space 'nothing' have a parameter at the same place"):
        nb.share(Nothing(), digits, networks=5)
    with pytest.raises(UserError, match="kernels"):
        nb.share(Own(), digits, kernels="own")
    with pytest.raises(UserError, match="networks is 0"):
        nb.share(Own(), digits, networks=0)
    with pytest.raises(UserError, match="calibration_inputs is -1"):
        nb.share(Own(), digits, networks=5, calibration_inputs=-1)
    with pytest.raises(UserError, match=r"cannot be built: .*divisible by groups"):
        nb.share(Forgetful((2, 6)), digits)
    supernet = nb.share(Own(), digits)
    with pytest.raises(UserError, match="Did you mean 'fair'"):
        supernet.train(sampling="fairr")
    del supernet.weights._parameters[next(key for key in supernet.weights.shapes if key.startswith("0=Sequential|3="))]
    with pytest.raises(UserError, match="is in none of the networks of which the shared weights were made"):
        supernet.network(supernet.largest)


def test_strict_fairness_has_each_option_once():
    from nasbench.supernet.sampling import Fair, TrainingStep

    space = nb.get_space("nasbench201")
    rng = np.random.default_rng(0)
    archs = Fair().draw(TrainingStep(space, None, None, rng))
    for picks in zip(*(arch.picks for arch in archs), strict=True):
        assert sorted(picks) == list(range(5))


def test_the_smallest_and_the_largest_are_reached_where_a_decision_waits_for_another_one():
    """With padding, no stage of a ResNet may be narrower than the one before, so the last one grows first."""
    space = nb.get_space("resnet", widths=[[8, 64]] * 5)

    def size(arch):
        return sum(value for value in space.choices(arch).values() if not isinstance(value, str))

    smallest, largest = extremes(space, size, np.random.default_rng(0))
    assert [space.choices(smallest)[f"width{stage}"] for stage in range(5)] == [8] * 5
    assert [space.choices(largest)[f"width{stage}"] for stage in range(5)] == [64] * 5


def test_decisions_become_free_one_kind_after_the_other():
    from nasbench.supernet.sampling import Progressive, TrainingStep

    space = nb.get_space("mobilenet_ofa")
    options = [decision.options for decision in space.decisions]
    largest = space.architecture([names.index(max(names, key=int)) for names in options])
    smallest = space.architecture([names.index(min(names, key=int)) for names in options])

    rng = np.random.default_rng(0)

    def at(progress):
        return TrainingStep(space, smallest, largest, rng, progress)

    def free(progress):
        """The options by kind of decision, the same for all decisions of a kind."""
        sets = {}
        for decision, picks in zip(space.decisions, Progressive().free_options(at(progress)), strict=True):
            kind = decision.name.rpartition(".")[2].replace("_", " ").split()[-1]
            names = [decision.options[pick] for pick in picks]
            assert sets.setdefault(kind, names) == names
        return sets

    whole = {kind: len(names) for kind, names in free(1).items()}
    assert whole == {"resolution": 25, "count": 3, "kernel": 3, "expansion": 3}
    assert free(0) == free(0.24) == {**free(0), "count": [4], "kernel": [7], "expansion": [6]}
    assert len(free(0)["resolution"]) == 25
    assert free(0.3)["kernel"] == [7, 5] and free(0.49)["kernel"] == [7, 5, 3]
    assert free(0.3)["count"] == [4] and free(0.6)["count"] == [4, 3] and free(0.74)["count"] == [4, 3, 2]
    assert free(0.74)["expansion"] == [6] and free(0.8)["expansion"] == [6, 4]
    drawn = [arch for _ in range(40) for arch in Progressive().draw(at(0.3))]
    for position, picks in enumerate(Progressive().free_options(at(0.3))):
        assert {arch.picks[position] for arch in drawn} <= set(picks)


def test_networks_trained_alone_are_kept_and_ranked(digits, tmp_path):
    supernet = nb.share(Own(), digits)
    counted = []
    first = agreement(supernet, networks=4, epochs=1, file=tmp_path / "alone.json", on_network=counted.append)
    assert counted == [1, 2, 3, 4] and len(first.alone) == 4
    before = (tmp_path / "alone.json").stat().st_mtime_ns
    assert agreement(supernet, networks=4, epochs=1, file=tmp_path / "alone.json").alone == first.alone
    assert (tmp_path / "alone.json").stat().st_mtime_ns == before, "nothing was trained again"
    with pytest.raises(UserError, match="a rank correlation of 2 networks says nothing"):
        agreement(supernet, networks=2)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((float("nan"), float("nan")), "says nothing"),
        ((0.7, 0.95), r"to 0\.95\)\.$"),
        ((-0.2, 0.9), "it is not certain"),
        ((-0.6, 0.3), "too low to trust"),
    ],
)
def test_the_sentence_says_whether_to_trust_the_ranking(interval, words):
    result = Agreement("val_acc_pct", 3, ["a"] * 24, [0.0] * 24, [0.0] * 24, 0.5, interval)
    assert re.search(words, result.sentence)
