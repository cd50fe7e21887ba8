"""What replacing and folding must not lose: hooks, methods of one instance, subclasses, other readers of a map."""

import functools
import json
import warnings

import pytest
import torch
from awkward import IMAGES, Net, context, outputs
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from nasbench_compression import get_step
from nasbench_compression.outputs import difference
from nasbench_compression.quantization.folding import find_pairs
from nasbench_registry import UserError
from search_spaces.blocks.repvgg import RepVGG

STEPS = {
    "int8": ("quantize", {}),
    "int8 weights": ("quantize", {"method": "weight_only"}),
    "fp16": ("quantize", {"precision": "fp16"}),
    "decompose": ("decompose", {"method": "svd", "max_macs": 10**9}),  # within the limit, so it changes nothing
}
BOUND = 0.05
"""Inputs and weights of three layers, each off by half of 1/255 and 1/127 at most, move outputs by a few hundredths."""


class Standardized(nn.Conv2d):
    def forward(self, images):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(images, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


class NormAct(nn.BatchNorm2d):
    def forward(self, images):
        return functional.relu(super().forward(images))


class FrozenNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.register_buffer("factor", torch.rand(channels) + 0.5)

    def forward(self, images):
        return images * self.factor.view(1, -1, 1, 1)


class Scaled(nn.Linear):
    def forward(self, features):
        return super().forward(functional.normalize(features, dim=1)) * 10


def net(**kinds):
    return type("Kind", (Net,), kinds)()


def hooked(register):
    network = Net()
    register(network)
    return network


def patched():
    network = Net()
    plain = network.b.forward
    network.b.forward = lambda images: plain(images) * 0.5
    return network


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(16, 2, bias=False), nn.Linear(2, 5, bias=False)

    def forward(self, features):
        return self.up(self.down(features))


class Adapted(Net):
    def __init__(self) -> None:
        super().__init__()
        self.head.adapter = LowRank()

    def forward(self, images):
        features = self.features(images).mean((2, 3))
        return self.head(features) + self.head.adapter(features)


class TwoNorms(Net):
    def __init__(self) -> None:
        super().__init__()
        self.second_norm = nn.BatchNorm2d(16)
        self.second_norm.running_mean.normal_(0, 0.5)

    def features(self, images):
        mapped = self.b(functional.relu(self.a_norm(self.a(images))))
        return functional.relu(self.b_norm(mapped)) + self.second_norm(mapped)


class SharedNorm(Net):
    def features(self, images):
        first = self.a_norm(self.a(images))
        return functional.relu(self.b_norm(self.b(functional.relu(first + self.a_norm(self.a(-images))))))


class Changed(Net):
    """Changes the map between its convolution and its norm."""

    def change(self, mapped):
        raise NotImplementedError

    def features(self, images):
        mapped = self.b(functional.relu(self.a_norm(self.a(images))))
        self.change(mapped)
        return functional.relu(self.b_norm(mapped))


class SetsToZero(Changed):
    def change(self, mapped):
        mapped[:, :8] = 0


class Multiplies(Changed):
    def change(self, mapped):
        mapped.mul_(0.3)


class ChangesItsData(Changed):
    def change(self, mapped):
        mapped.data.clamp_(min=0)


class ChangesByNumpy(Changed):
    def change(self, mapped):
        mapped.detach().numpy()[:] *= 0.5


class Keeps(Changed):
    def change(self, mapped):
        self.kept = {"maps": [mapped]}


class ReadsTheWeightOfTheConvolution(Net):
    def forward(self, images):
        return super().forward(images) * self.b.weight.norm()


class CallsTheLayersOfAList(Net):
    def __init__(self) -> None:
        super().__init__()
        self.order = (lambda: self.b,)  # a way that replacing does not follow
        self.body = functools.partial(type(self.b).forward, self.b)

    def features(self, images):
        return functional.relu(self.b_norm(self.body(functional.relu(self.a_norm(self.a(images))))))


class CallsByKeyword(Net):
    def features(self, images):
        first = functional.relu(self.a_norm(input=self.a(input=images)))
        return functional.relu(self.b_norm(input=self.b(input=first)))


def computed(change):
    network = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change(network)
    network(IMAGES)
    return network


TANH = "a forward hook (a lambda) hangs on it"
NETWORKS = {
    # the network, what is said of "b" or of "head", and the norms that are folded
    "plain": (Net, {}, "ab"),
    "keywords": (CallsByKeyword, {}, "ab"),
    "forward hook": (lambda: hooked(lambda n: n.b.register_forward_hook(lambda m, i, o: o.tanh())), {"b": TANH}, "a"),
    "forward pre-hook": (
        lambda: hooked(lambda n: n.head.register_forward_pre_hook(lambda m, i: (functional.normalize(i[0]),))),
        {"head": "a forward pre hook (a lambda) hangs on it"},
        "ab",
    ),
    "pre-hook with keywords": (
        lambda: hooked(lambda n: n.head.register_forward_pre_hook(lambda m, a, k: ((a[0] * 2,), k), with_kwargs=True)),
        {"head": "a forward pre hook (a lambda) hangs on it"},
        "ab",
    ),
    "backward hook": (
        lambda: hooked(lambda n: n.b.register_full_backward_hook(lambda m, i, o: None)),
        {"b": "a backward hook (a lambda) hangs on it"},
        "a",
    ),
    "state-dict hook": (
        lambda: hooked(lambda n: n.b.register_state_dict_post_hook(lambda m, s, p, d: None)),
        {"b": "a state-dict hook (a lambda) hangs on it"},
        "a",
    ),
    "hook on a norm": (lambda: hooked(lambda n: n.b_norm.register_forward_hook(lambda m, i, o: o.abs())), {}, "a"),
    "a forward of its own": (patched, {"b": "its method forward was replaced on this instance"}, "a"),
    "weight standardization": (lambda: net(convolution=Standardized), {"b": "a Standardized is no plain Conv2d"}, ""),
    "norm with activation": (lambda: net(norm=NormAct), {}, ""),
    "frozen norm": (lambda: net(norm=FrozenNorm), {}, ""),
    "SyncBatchNorm": (lambda: net(norm=nn.SyncBatchNorm), {}, ""),
    "norm without statistics": (
        lambda: net(norm=functools.partial(nn.BatchNorm2d, track_running_stats=False)),
        {},
        "",
    ),
    "norm without weights": (lambda: net(norm=functools.partial(nn.BatchNorm2d, affine=False)), {}, "ab"),
    "subclass of Linear": (lambda: net(linear=Scaled), {"head": "a Scaled is no plain Linear"}, "ab"),
    "an adapter on a layer": (Adapted, {"head": "it has a part of its own besides weight and bias (adapter)"}, "ab"),
    "two norms": (TwoNorms, {}, "a"),
    "one norm twice": (SharedNorm, {}, "b"),
    "set to zero": (SetsToZero, {}, "a"),
    "multiplied in place": (Multiplies, {}, "a"),
    "changed by .data": (ChangesItsData, {}, "a"),
    "changed by numpy": (ChangesByNumpy, {}, "a"),
    "kept": (Keeps, {}, "a"),
    "weight read": (ReadsTheWeightOfTheConvolution, {}, "a"),
    "called by another way": (CallsTheLayersOfAList, {"b": "no image passes it as a module"}, "a"),
    "old weight norm": (
        lambda: computed(lambda n: weight_norm(n.b)),
        {"b": "its weight is computed from other parameters (by WeightNorm)"},
        "a",
    ),
    "old spectral norm": (
        lambda: computed(lambda n: spectral_norm(n.b)),
        {"b": "its weight is computed from other parameters (by SpectralNorm)"},
        "a",
    ),
    "masks of torch.nn.utils.prune": (
        lambda: computed(lambda n: prune.l1_unstructured(n.b, "weight", 0.3)),
        {"b": "its weight is computed from other parameters (by L1Unstructured)"},
        "a",
    ),
    "parametrization": (
        lambda: computed(lambda n: parametrizations.weight_norm(n.b)),
        {"b": "its weight is computed from other parameters (by the parametrization WeightNorm)"},
        "a",
    ),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_outputs_stay_and_what_stays_has_its_reason(kind, step) -> None:
    torch.manual_seed(0)
    build, reasons, folded = NETWORKS[kind]
    network = build().eval()
    expected = outputs(network)
    name, options = STEPS[step]
    compressed, note = get_step(name, **options).apply(network, context())
    json.dumps(note, allow_nan=False)
    assert difference(outputs(compressed), expected) <= (0 if name == "decompose" else BOUND)
    assert difference(outputs(network), expected) == 0
    if name == "quantize":
        assert note["folded"] == [[letter, f"{letter}_norm"] for letter in folded]
    if step == "fp16":  # every layer is cast as it is, and none is left
        return
    left = note["left_alone" if name == "decompose" else "left_float"]
    for layer, reason in reasons.items():
        assert reason in left[layer]


def test_the_norm_of_a_map_that_is_put_out_stays() -> None:
    class PutsOut(Net):
        def forward(self, images):
            raw = self.b(functional.relu(self.a_norm(self.a(images))))
            return self.head(functional.relu(self.b_norm(raw)).mean((2, 3))), {"raw": raw}

    torch.manual_seed(0)
    network = PutsOut().eval()
    assert find_pairs(network, IMAGES[:1]) == [("a", "a_norm")]
    quantized, _ = get_step("quantize").apply(network, context())
    assert difference(outputs(quantized), outputs(network)) <= BOUND


def test_a_norm_in_training_mode_is_folded_as_in_evaluation_and_modes_stay() -> None:
    torch.manual_seed(0)
    network = Net().eval()
    expected = outputs(network)
    network.b_norm.train()
    quantized, note = get_step("quantize", precision="fp16").apply(network, context())
    assert note["folded"] == [["a", "a_norm"], ["b", "b_norm"]] and network.b_norm.training and not network.training
    assert difference(outputs(quantized), expected) <= BOUND


def test_what_torch_quantized_is_not_quantized_again() -> None:
    network = Net()
    network.head = torch.ao.nn.qat.Linear(16, 5, qconfig=torch.ao.quantization.default_qat_qconfig)
    with pytest.raises(UserError, match="quantized already, for head is a torch.ao.nn.qat"):
        get_step("quantize").apply(network, context())


def test_a_linear_of_multi_head_attention_stays() -> None:
    class Attends(Net):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, images):
            tokens = self.features(images).flatten(2).transpose(1, 2)
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))

    torch.manual_seed(0)
    network = Attends().eval()
    quantized, note = get_step("quantize").apply(network, context())
    assert "no plain Linear" in note["left_float"]["attention.out_proj"]
    assert difference(outputs(quantized), outputs(network)) <= BOUND
    _, note = get_step("decompose", method="svd").apply(network, context())
    assert "no plain Linear" in note["left_alone"]["attention.out_proj"]


def test_a_hook_keeps_branches_from_being_merged() -> None:
    torch.manual_seed(0)
    block = RepVGG(3, 8).eval()
    network = nn.Sequential(block, nn.Flatten(), nn.Linear(8 * 64, 5))
    handle = block.dense.register_forward_hook(lambda module, args, output: output * 2)
    expected = outputs(network)
    quantized, _ = get_step("quantize", precision="fp16").apply(network, context())
    assert difference(outputs(quantized), expected) <= BOUND
    handle.remove()
    merged, _ = get_step("quantize", precision="fp16").apply(network, context())
    assert sum(isinstance(module, nn.Conv2d) for module in merged.modules()) == 1
