"""Scores and masks by hand; zeros that are there and stay; sparse kernels that compute the same; accuracy on digits."""

import copy
import json
import math
import re
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bounds import check_above, check_below
from compression_networks import NETWORKS
from torch import nn

from nasbench_compression import get_step
from nasbench_compression.quantization.modules import QuantizedConv2d, QuantizedLinear
from nasbench_compression.sparsity.csr import CsrConv2d, CsrLinear, stored_bytes, to_csr, with_csr_layers
from nasbench_compression.sparsity.gradual import Gradual, cubic_sparsity
from nasbench_compression.sparsity.masks import keep_globally, keep_n_of_m, keep_per_layer
from nasbench_compression.sparsity.scores import snip_scores
from nasbench_compression.sparsity.weights import Weight, find_weights
from nasbench_compression.surgery import replace_module
from nasbench_compression.zeros import keep_zeros, marked, zeros_kept
from nasbench_registry import UserError


def zeros_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.value.detach() == 0 for name, weight in find_weights(model)[0].items()}


def sparsify(model, context, **options):
    return get_step("sparsify", **options).apply(model, context)


# Masks


def test_cubic_schedule_by_hand() -> None:
    sparsities = [cubic_sparsity(progress, 0.8) for progress in (-1, 0, 0.25, 0.5, 1, 2)]
    assert sparsities == pytest.approx([0, 0, 0.8 * (1 - 27 / 64), 0.8 * 7 / 8, 0.8, 0.8])
    assert cubic_sparsity(0.5, 0.8, initial=0.4) == pytest.approx(0.75)


def test_masks_by_hand() -> None:
    scores = {"a": torch.tensor([[5.0, 1.0], [6.0, 7.0]]), "b": torch.tensor([0.5, 0.1, 0.2, 0.3, 0.4, 0.6])}
    local = keep_per_layer(scores, 0.5)
    assert local["a"].tolist() == [[False, False], [True, True]]
    assert local["b"].tolist() == [True, False, False, False, True, True]
    # All six of b are below all four of a but one: b keeps one weight, or it would cut the network in two.
    together = keep_globally(scores, 0.6)
    assert together["a"].tolist() == [[True, False], [True, True]]
    assert together["b"].tolist() == [False] * 5 + [True]
    assert keep_per_layer({"c": torch.zeros(3)}, 0.99)["c"].tolist() == [False, False, True]


def test_n_of_m_runs_along_the_inputs() -> None:
    score = torch.zeros(1, 8, 1, 2)
    score[0, :, 0, 0] = torch.tensor([1.0, 4, 3, 2, 0, 0, 9, 8])
    score[0, :, 0, 1] = torch.tensor([9.0, 8, 1, 1, 5, 6, 7, 8])
    mask = keep_n_of_m(score, 2, 4)
    assert mask[0, :, 0, 0].nonzero().flatten().tolist() == [1, 2, 6, 7]
    assert mask[0, :, 0, 1].nonzero().flatten().tolist() == [0, 1, 6, 7]


# Scores


def test_snip_by_hand() -> None:
    # Logits [2, 0] for x = [1, 2], label 1: dL/dlogits = softmax - one-hot = [s, -s] with s = 1 / (1 + e^-2).
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, -1.0], [6.0, -3.0]]))
    model = nn.Sequential(nn.Flatten(), layer)
    image, label = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), torch.tensor([1])
    scores = snip_scores(model, find_weights(model)[0], image, label)
    s = 1 / (1 + math.exp(-2))
    np.testing.assert_allclose(scores["1"], s * np.array([[4.0, 2.0], [6.0, 6.0]]), rtol=1e-6)


def test_snip_is_what_the_loss_loses_to_first_order(plain, context) -> None:
    model = copy.deepcopy(plain).requires_grad_(False)
    weights = {"hidden": find_weights(model)[0]["hidden"]}
    scores = snip_scores(model, weights, context.calibration, context.labels)["hidden"]

    def loss() -> float:
        with torch.no_grad():
            return nn.functional.cross_entropy(model.double()(context.calibration.double()), context.labels).item()

    place = tuple(int(i) for i in np.unravel_index(int(scores.argmax()), scores.shape))
    full = model.hidden.weight[place].item()
    changes = []
    for share in (-1e-4, 1e-4):
        model.hidden.weight[place] = full * (1 + share)
        changes.append(loss())
    assert abs(changes[1] - changes[0]) / 2e-4 == pytest.approx(scores[place].item(), rel=1e-3)


def descend(layer: nn.Linear, gradual: Gradual, gradients: list[list[float]], total: int) -> None:
    """Plain gradient descent with rate 1 on given gradients."""
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    for done, gradient in enumerate(gradients, start=1):
        layer.weight.grad = torch.tensor([gradient])
        optimizer.step()
        gradual(done, total)


def movement(values: list[float], sparsity: float, *, learned: bool, **options) -> tuple[nn.Linear, Gradual]:
    layer = nn.Linear(len(values), 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([values]))
    return layer, Gradual({"": Weight(layer, "weight")}, keep_per_layer, sparsity, movement=learned, **options)


def test_movement_keeps_what_moves_away_from_zero() -> None:
    """From 2.0 to 1.4, S = -(2.0 + 1.7) * 0.3; from 0.1 to 0.7, S = (0.1 + 0.4) * 0.3. Magnitude decides otherwise."""
    gradients = [[0.3, -0.3], [0.3, -0.3]]
    for learned, left in ((True, [0.0, 0.7]), (False, [1.4, 0.0])):
        layer, gradual = movement([2.0, 0.1], 0.5, learned=learned, begin=0.9, end=1.0)
        descend(layer, gradual, gradients, total=2)
        assert layer.weight[0].tolist() == pytest.approx(left)
        if learned:
            assert gradual._scores[""][0].tolist() == pytest.approx([-1.11, 0.15])


def test_a_masked_weight_comes_back_with_its_value() -> None:
    # Step 1 masks the first, S = -2.0 * 0.1, and not the second, S = 1.0 * 0.1. In step 2 the gradient at the masked
    # weight says that it is missed: S = -0.2 + 1.9 * 1.0 with the value that it had when it was masked.
    layer, gradual = movement([2.0, 1.0], 0.5, learned=True, end=1.0)
    gradual._select = lambda scores, sparsity: keep_per_layer(scores, 0.5)
    descend(layer, gradual, [[0.1, -0.1]], total=2)
    assert layer.weight[0].tolist() == pytest.approx([0.0, 1.1])
    layer.weight.grad = torch.tensor([[-1.0, 0.0]])
    gradual(2, 2)
    assert layer.weight[0].tolist() == pytest.approx([1.9, 0.0])


def test_sparsity_grows_along_the_schedule(plain, context) -> None:
    densities = {}

    def finetune(model, loss=None, *, epochs, learning_rate=None, on_batch=None):
        for done in range(1, 101):
            on_batch(done, 100)
            densities[done] = 1 - zeros_of(model)["hidden"].float().mean().item()

    sparsify(plain, replace(context, finetune=finetune), sparsity=0.8, epochs=1, begin=0.2, end=0.6, frequency=10)
    size = plain.hidden.weight.numel()
    for done, density in densities.items():
        progress = (done // 10 * 10 / 100 - 0.2) / 0.4  # it only changes every tenth step
        assert density == pytest.approx(1 - cubic_sparsity(progress, 0.8), abs=1 / size), done


# The step


@pytest.mark.parametrize(
    "options",
    [
        {"sparsity": 0.7},
        {"sparsity": 0.7, "global_ranking": True, "epochs": 1},
        {"sparsity": 0.7, "importance": "snip"},
        {"sparsity": 0.7, "importance": "snip", "epochs": 1},
        {"sparsity": 0.7, "importance": "movement", "epochs": 1},
        {"pattern": "2:4", "epochs": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("network_name", ["residual"])
def test_what_was_asked_for_is_in_the_weights(trained, context, options) -> None:
    sparsified, note = sparsify(trained, context, **options)
    assert json.loads(json.dumps(note)) == note
    assert {n: type(m) for n, m in sparsified.named_modules()} == {n: type(m) for n, m in trained.named_modules()}
    assert sparsified.state_dict().keys() == trained.state_dict().keys()
    zeros = {name: zero for name, zero in zeros_of(sparsified).items() if name in note["layers"]}
    assert set(note["layers"]) | set(note["left_alone"]) == {
        name for name, module in trained.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    }
    assert all("depthwise" in note["left_alone"][f"blocks.{index}.depthwise.0"] for index in range(3))
    total, kept = sum(zero.numel() for zero in zeros.values()), sum(int((~zero).sum()) for zero in zeros.values())
    assert note["weights"] == total and note["density"] == pytest.approx(kept / total)
    for name, zero in zeros.items():
        layer = note["layers"][name]
        assert layer["density"] == pytest.approx(1 - zero.float().mean().item())
        # A 32-bit index for each value, and one for the beginning of each row and the end.
        assert layer["csr_bytes"] == 8 * int((~zero).sum()) + 4 * (len(zero) + 1)
        assert layer["dense_bytes"] == 4 * zero.numel()
    if "pattern" in options:
        for zero in zeros.values():
            assert ((~zero).movedim(1, -1).reshape(-1, 4).sum(1) == 2).all()
        assert "6 inputs" in note["left_alone"]["grouped.0"]
    elif options.get("global_ranking"):
        assert note["density"] == pytest.approx(0.3, abs=1e-3)
        assert len({round(layer["density"], 2) for layer in note["layers"].values()}) > 5
    else:
        assert all(abs(layer["density"] - 0.3) * layer["weights"] <= 0.5 + 1e-9 for layer in note["layers"].values())


def test_excluded_layers_are_left_alone(plain, context) -> None:
    sparsified, note = sparsify(plain, context, sparsity=0.5, exclude=["classifier", "features.[03]"])
    assert set(note["layers"]) == {"features.6", "hidden"}
    assert torch.equal(sparsified.classifier.weight, plain.classifier.weight)
    assert set(sparsify(plain, context, sparsity=0.5, exclude=["features"])[1]["layers"]) == {"hidden", "classifier"}
    with pytest.raises(UserError, match=r"'clasifier' in sparsify exclude.*Did you mean 'classifier'"):
        sparsify(plain, context, sparsity=0.5, exclude=["clasifier"])
    with pytest.raises(UserError, match="'\\*' excludes it"):
        sparsify(plain, context, sparsity=0.5, exclude=["*"])


def test_snip_needs_labels(plain, context) -> None:
    with pytest.raises(UserError, match="give labels: the class index"):
        sparsify(plain, replace(context, labels=None), sparsity=0.5, importance="snip")


@pytest.mark.parametrize(
    ("options", "network_name", "lost", "given_back"),
    [
        ({"global_ranking": True}, "plain", (-0.1, 0.84), (43.1, 9.6)),
        ({"importance": "movement"}, "plain", (2.3, 2.2), None),  # learned: it cannot do without fine-tuning
        ({}, "residual", (1.1, 1.4), (85, 2.5)),
    ],
    ids=["global", "movement", "residual"],
)
def test_ninety_percent_of_the_weights_can_go(trained, context, options, lost, given_back) -> None:
    before = context.evaluate(trained)
    sparsified, note = sparsify(trained, context, sparsity=0.9, epochs=8, learning_rate=0.005, **options)
    assert note["density"] == pytest.approx(0.1, abs=1e-3)
    after = context.evaluate(sparsified)
    check_below("points lost", before - after, mean=lost[0], sd=lost[1])
    if given_back:
        at_once, _ = sparsify(trained, context, sparsity=0.9, **options)
        regained = after - context.evaluate(at_once)
        check_above("points that fine-tuning gives back", regained, mean=given_back[0], sd=given_back[1])


# Zeros stay


@pytest.mark.parametrize("network_name", ["residual"])
def test_zeros_survive_every_later_step(trained, context) -> None:
    context = replace(context, teacher=trained)
    sparsified, note = sparsify(trained, context, sparsity=0.8, epochs=1)
    zeros = zeros_of(sparsified)
    for method in ("soft_targets", "fitnets"):
        distilled, _ = get_step("distill", epochs=1, method=method).apply(sparsified, context)
        assert not torch.equal(distilled.classifier.weight, sparsified.classifier.weight)
        for name, zero in zeros_of(distilled).items():
            assert torch.equal(zero, zeros[name]), name
    # The same after it was stored: the note marks the layers, the weights say which zeros.
    restored = get_step("sparsify", sparsity=0.8).restore(NETWORKS["residual"](), json.loads(json.dumps(note)))
    restored.load_state_dict(sparsified.state_dict())
    context.finetune(restored, epochs=1)
    assert not torch.equal(restored.classifier.weight, sparsified.classifier.weight)
    assert all(torch.equal(zero, zeros[name]) for name, zero in zeros_of(restored).items())
    # More of them.
    sparser, second = sparsify(distilled, context, sparsity=0.9, importance="movement", epochs=1)
    assert second["density"] == pytest.approx(0.1, abs=1e-3)
    assert all((zeros_of(sparser)[name] | ~zeros[name]).all() for name in second["layers"])
    # In int8 a zero is a zero.
    quantized, _ = get_step("quantize").apply(distilled, context)
    for name, module in quantized.named_modules():
        if isinstance(module, QuantizedConv2d | QuantizedLinear) and name in note["layers"]:
            assert (module.weight_int8[zeros[name]] == 0).all()


@pytest.mark.parametrize("network_name", ["plain"])
def test_zeros_survive_structured_pruning(trained, context) -> None:
    sparsified, note = sparsify(trained, context, sparsity=0.5)
    pruned, pruning = get_step("prune", ratio=0.4, epochs=2).apply(sparsified, context)
    assert {name for name, _, _ in marked(pruned)} == set(note["layers"])
    densities = {name: 1 - zero.float().mean().item() for name, zero in zeros_of(pruned).items()}
    assert all(0.2 < density < 0.8 for density in densities.values()), densities
    fresh = get_step("prune", ratio=0.4).restore(
        get_step("sparsify", sparsity=0.5).restore(NETWORKS["plain"](), note), pruning
    )
    assert {name for name, _, _ in marked(fresh)} == set(note["layers"])


def test_neither_gradients_nor_a_restless_optimizer_move_zeros() -> None:
    layer = nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight[:, ::2] = 0
    with zeros_kept(layer) as set_to_zero:
        assert set_to_zero is None  # not marked: an ordinary layer may have zeros and lose them
    model = nn.Sequential(OrderedDict(head=layer))
    keep_zeros(layer)
    with zeros_kept(model) as set_to_zero:
        model(torch.ones(2, 4)).sum().backward()
        assert (layer.weight.grad[:, ::2] == 0).all() and (layer.weight.grad[:, 1::2] != 0).all()
        with torch.no_grad():
            layer.weight.add_(1)
        set_to_zero()
        assert (layer.weight[:, ::2] == 0).all() and (layer.weight[:, 1::2] != 0).all()
    layer.weight.grad = None
    model(torch.ones(2, 4)).sum().backward()
    assert (layer.weight.grad != 0).all()


def test_a_layer_that_takes_the_place_of_another_keeps_its_zeros() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    keep_zeros(model[0])
    keep_zeros(model[2])
    same, smaller = nn.Linear(4, 3), nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 2))
    replace_module(replace_module(model, model[0], same), model[2], smaller)
    assert [(path, module, name) for path, module, name in marked(model)] == [("0", same, "weight")]


class Merging(nn.Module):
    """Two branches that are one convolution for deployment."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(1, 8, 1)

    def forward(self, x):
        return self.left(x) + self.right(x)

    def reparameterize(self) -> nn.Conv2d:
        merged = copy.deepcopy(self.left)
        with torch.no_grad():
            merged.weight += nn.functional.pad(self.right.weight, (1, 1, 1, 1))
            merged.bias += self.right.bias
        return merged


def test_branches_are_merged_first(context) -> None:
    model = nn.Sequential(Merging(), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10))
    sparsified, note = sparsify(model, context, sparsity=0.75)
    assert set(note["layers"]) == {"0", "3"} and isinstance(sparsified[0], nn.Conv2d)
    assert note["layers"]["0"]["density"] == 0.25
    restored = get_step("sparsify", sparsity=0.75).restore(model, note)
    restored.load_state_dict(sparsified.state_dict())


def test_attention_is_sparse_too(context) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 10)

        def forward(self, x):
            tokens = x.flatten(1).view(len(x), 8, 8)
            return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))

    sparsified, note = sparsify(Attention(), context, sparsity=0.75, epochs=1)
    assert set(note["layers"]) == {"attention.in_proj_weight", "attention.out_proj", "head"}
    zeros = sparsified.attention.in_proj_weight == 0
    assert zeros.float().mean() == 0.75
    context.finetune(sparsified, epochs=1)
    assert torch.equal(sparsified.attention.in_proj_weight == 0, zeros)
    assert set(note["measured"]["layers"]) == {"head"}  # attention reads its weights itself, so nothing can be swapped


# Kernels


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 3, padding=1),
        nn.Conv2d(6, 8, (3, 2), stride=(2, 1), padding=(0, 2), dilation=(1, 2), bias=False),
        nn.Conv2d(6, 9, 3, padding=1, groups=3),
        nn.Conv2d(6, 8, 1),
        nn.Conv2d(6, 8, 1, stride=2),
        nn.Conv2d(6, 8, (4, 3), padding="same"),
        nn.Conv2d(6, 8, 3, padding="valid"),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_sparse_convolution_computes_the_same(layer, batch) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight.mul_(torch.rand(layer.weight.shape, generator=generator) < 0.3)
    inputs = torch.randn(batch, 6, 9, 7, generator=generator)
    torch.testing.assert_close(CsrConv2d(layer)(inputs), layer(inputs), atol=1e-5, rtol=1e-5)
    assert stored_bytes(to_csr(layer.weight, layer.groups)) == 8 * int(layer.weight.count_nonzero()) + 4 * (
        layer.out_channels + 1
    )


def test_sparse_linear_layer_computes_the_same() -> None:
    layer = nn.Linear(12, 5)
    with torch.no_grad():
        layer.weight[:, ::2] = 0
        layer.weight[2] = 0
    for shape in ((1, 12), (4, 12), (2, 3, 12)):
        inputs = torch.randn(shape)
        torch.testing.assert_close(CsrLinear(layer)(inputs), layer(inputs), atol=1e-5, rtol=1e-5)


def test_the_network_with_sparse_kernels_is_the_network_that_is_timed(trained, network_name, context) -> None:
    sparsified, note = sparsify(trained, context, sparsity=0.8)
    weights = {name: weight for name, weight in find_weights(sparsified)[0].items() if name in note["layers"]}
    sparse, layers = with_csr_layers(sparsified, weights)
    assert set(layers) == set(note["layers"]) == set(note["measured"]["layers"])
    assert not any(isinstance(module, CsrConv2d | CsrLinear) for module in sparsified.modules())
    images = context.calibration[:3]
    with torch.no_grad():
        torch.testing.assert_close(
            sparse.eval()(images), copy.deepcopy(sparsified).eval()(images), atol=1e-4, rtol=1e-4
        )
    measured = note["measured"]
    assert (measured["kernel"], measured["threads"], measured["batch"]) == ("csr", torch.get_num_threads(), 1)
    for times in (measured["network"], *measured["layers"].values()):
        assert times["dense_ms"] > 0 and times["csr_ms"] > 0
        assert times["speedup_low"] <= times["speedup"] <= times["speedup_high"]


def test_the_example_of_the_page_runs(capsys) -> None:
    text = (Path(__file__).parents[2] / "docs/sparsity.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    with torch.random.fork_rng():
        exec(compile(script, "docs/sparsity.md", "exec"), {})
    reached = {line.split()[0]: float(line.split()[1]) for line in capsys.readouterr().out.splitlines()}
    assert len(reached) == 4 and min(reached.values()) > 30 and max(reached.values()) > 85
