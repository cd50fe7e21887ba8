"""The step: its note, which layers are left alone, and networks that compute the same as before."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from bounds import check_learned
from torch import nn

from nasbench_compression import get_step
from nasbench_compression.decomposition.decomposable import find_decomposable
from nasbench_compression.decomposition.decompose import METHODS
from nasbench_compression.reparameterization import reparameterize
from nasbench_registry import UserError
from search_spaces import Task, get_space


def test_note_is_true(plain, context) -> None:
    small, note = get_step("decompose", ratio=0.5).apply(plain, context)
    assert note["params"] == [sum(p.numel() for p in m.parameters()) for m in (plain, small)]
    assert set(note["layers"]) == {"features.0", "features.3", "features.6"}
    for name, entry in note["layers"].items():
        old, new = plain.get_submodule(name), small.get_submodule(name)
        first, rows, columns, last = (m.weight.detach().double() for m in new)
        product = torch.einsum(
            "or,rh,rw,ri->oihw", last[:, :, 0, 0], rows[:, 0, :, 0], columns[:, 0, 0], first[:, :, 0, 0]
        )
        weight = old.weight.detach().double()
        assert entry["relative_error"] == pytest.approx(((weight - product).norm() / weight.norm()).item(), abs=1e-5)
        assert entry["rank"] == len(first)
        assert sum(m.weight.numel() for m in new) <= 0.5 * old.weight.numel()


def test_what_does_not_pay_is_left_alone(_trained, context) -> None:
    _, note = get_step("decompose").apply(_trained("residual"), context)
    assert set(note["layers"]) == {"stem.0"}
    assert note["left_alone"]["grouped.0"] == "it has 4 groups"
    assert note["left_alone"]["blocks.0.expand.0"] == "its kernel is 1x1"
    with pytest.raises(UserError, match="rank 100 has 2300 weights, no fewer than its 144"):
        get_step("decompose", rank=100).apply(_trained("residual"), context)


def test_other_padding_and_subclasses_are_left_alone(context) -> None:
    class Special(nn.Conv2d):
        pass

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        Special(16, 16, 3),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    _, note = get_step("decompose").apply(model, context)
    assert set(note["layers"]) == {"0"} and set(note["left_alone"]) == {"1", "2"}


def test_finetuning_recovers_accuracy(plain, context) -> None:
    raw, _ = get_step("decompose", ratio=0.5).apply(plain, context)
    tuned, _ = get_step("decompose", ratio=0.5, epochs=2).apply(plain, context)
    lost_without, lost = (context.evaluate(plain) - context.evaluate(model) for model in (raw, tuned))
    assert lost < lost_without / 2


def test_exactly_one_rule_decides() -> None:
    assert get_step("decompose").ratio == 0.5
    assert get_step("decompose", rank=4).ratio is None
    with pytest.raises(UserError, match="ratio 0.5, energy 0.9, but only one"):
        get_step("decompose", ratio=0.5, energy=0.9)


def test_excluded_layers_are_left_alone(plain, context) -> None:
    step = get_step("decompose", method="svd", exclude=["features.[03]", "classifier"])
    _, note = step.apply(plain, context)
    assert set(note["layers"]) == {"features.6", "hidden"}
    assert {note["left_alone"][name] for name in ("features.0", "features.3", "classifier")} == {"it is excluded"}
    _, note = get_step("decompose", method="svd", exclude=["features"]).apply(plain, context)
    assert set(note["layers"]) == {"hidden", "classifier"}
    with pytest.raises(UserError, match="Did you mean 'classifier'"):
        get_step("decompose", exclude=["clasifier"]).apply(plain, context)


class Awkward(nn.Module):
    """Layers whose weights are read by something else than their own forward pass, or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(64, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(16, 64))
        self.tied = nn.Linear(16, 64, bias=False)
        self.same = nn.Linear(16, 64, bias=False)
        self.same.weight = self.tied.weight
        self.unused = nn.Linear(64, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder(self.embed(x.flatten(2)))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.normed(x) + self.tied(x) + self.same(x)).mean(1)


def test_layers_that_are_more_than_modules_are_left_alone(context) -> None:
    torch.manual_seed(0)
    model = Awkward().eval()
    small, note = get_step("decompose", method="svd").apply(model, context)
    assert set(note["layers"]) == {"embed", "head"}
    left = note["left_alone"]
    assert left["encoder.linear1"] == left["unused"] == "no image passes it as a module"
    assert left["attention.out_proj"] == "a NonDynamicallyQuantizableLinear is no plain Linear"
    assert left["tied"] == left["same"] == "it shares its weight with another module"
    assert "computed from other parameters (by the parametrization WeightNorm)" in left["normed"]
    with torch.no_grad():
        assert small(context.example_inputs).shape == (4, 10)
    assert small.train()(context.example_inputs).requires_grad


def test_frozen_weights_stay_frozen(plain, context) -> None:
    model = copy.deepcopy(plain)
    model.features[3].weight.requires_grad_(False)
    small, _ = get_step("decompose", method="tucker").apply(model, context)
    assert not any(parameter.requires_grad for parameter in small.features[3].parameters())
    assert all(parameter.requires_grad for parameter in small.features[6].parameters())


def test_a_module_with_two_names_is_replaced_under_both(context) -> None:
    torch.manual_seed(0)
    shared = nn.Conv2d(8, 8, 3, padding=1)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), shared, nn.ReLU(), shared, nn.Flatten(), nn.Linear(8 * 36, 10))
    small, note = get_step("decompose", method="svd", exclude=["0", "5"]).apply(model, context)
    assert set(note["layers"]) == {"1"} and small[1] is small[3]
    assert note["macs"][0] - note["macs"][1] == 2 * 36 * (
        shared.weight.numel() - sum(m.weight.numel() for m in small[1])
    )


SPACES = {
    "mobile": {"layers": 3},
    "resnet": {"blocks": ["basic"], "depths": [1], "widths": [[8], [8], [16]]},
    "vit": {"embeddings": [16], "depths": [1], "heads": [2], "head_width": 8},
}


@pytest.mark.parametrize(
    "method", [pytest.param("cp", marks=pytest.mark.fixed_seeds), *(name for name in METHODS if name != "cp")]
)
@pytest.mark.parametrize("space", SPACES)
def test_networks_of_low_rank_compute_the_same(context, space, method) -> None:
    """Weights are made to have the ranks that the step then finds; 1e-4 of the largest logit.

    Least squares for CP may end elsewhere from some starts (in 2 of 30 networks of `mobile` a layer kept an error of 3
    and 10 %), so that there the seeds are fixed.
    """
    search_space, task = get_space(space, **SPACES[space]), Task((1, 8, 8), 10)
    torch.manual_seed(0)
    network = reparameterize(search_space.build(search_space.sample(np.random.default_rng(4)), task).eval())
    candidates, _ = find_decomposable(network, METHODS[method], (), context.example_inputs, seed=0)
    for candidate in candidates:
        layer = candidate.layer
        _, product = METHODS[method].factors(layer, METHODS[method].same(layer, 2), 0)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(product.reshape(layer.weight.shape)))
    small, note = get_step("decompose", method=method, rank=3).apply(network, context)
    assert note["layers"]
    with torch.no_grad():
        expected, logits = network(context.calibration[:8]), small(context.calibration[:8])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4 * max(1.0, expected.abs().max().item()))
    restored = get_step("decompose", method=method).restore(network, json.loads(json.dumps(note)))
    restored.load_state_dict(small.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(restored(context.calibration[:8]), logits)


def test_the_example_of_the_documentation(capsys) -> None:
    text = (Path(__file__).parents[2] / "docs/decomposition.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(script, "docs/decomposition.md", "exec"), {})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [words[0] for words in lines[1:]] == ["cp", "tucker", "tt", "svd"]
    for words in lines[1:]:
        check_learned(words[0], float(words[1]), images=497)
        assert 0.38 < float(words[3]) <= 0.4
