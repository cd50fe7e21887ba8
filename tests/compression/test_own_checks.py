"""What a step compares before it returns: merging, copies, building again from a note."""

import copy
import re
from dataclasses import dataclass

import pytest
import torch
from awkward import IMAGES, Net, context, outputs
from torch import nn

from nasbench_compression import Context, get_backend, get_step
from nasbench_compression.outputs import difference
from nasbench_compression.quantization.folding import find_pairs, fold, fold_checked
from nasbench_compression.quantization.quantize import Quantize
from nasbench_compression.reference import Reference, check_restores, irreplaceable
from nasbench_compression.reparameterization import reparameterize
from nasbench_registry import UserError

STEPS = [("quantize", {}), ("quantize", {"precision": "fp16"}), ("decompose", {"method": "svd"})]


@pytest.mark.parametrize(("name", "options"), STEPS)
def test_a_block_that_merges_into_something_else_is_refused_with_the_number(name, options) -> None:
    class MergesWrongly(Net):
        def reparameterize(self):
            merged = copy.deepcopy(self)
            with torch.no_grad():
                merged.head.weight.mul_(1.01)
            return merged

    with pytest.raises(UserError, match=rf"{name}: merging the branches .* changes the outputs .* by 0\.0\d+ of"):
        get_step(name, **options).apply(MergesWrongly(), context())


@pytest.mark.parametrize(("name", "options"), STEPS)
def test_a_copy_that_computes_with_the_original_is_refused(name, options) -> None:
    class Shares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv2d(3, 5, 3)

        def __deepcopy__(self, memo):
            return self

        def forward(self, images):
            return self.inner(images)

    network = nn.Sequential(Shares(), nn.Flatten(), nn.Linear(180, 5))
    with pytest.raises(UserError, match=f"{name} works on a copy .* still computes with '0.inner.weight' of the orig"):
        get_step(name, **options).apply(network, context())


def test_rounding_is_told_from_what_is_wrong() -> None:
    torch.manual_seed(0)
    network = Net().eval()
    reference = Reference.of("test", network, IMAGES)
    folded = fold(copy.deepcopy(network), find_pairs(network, IMAGES[:1]))
    assert reference.off(folded) > 0 and reference.explains(reference.off(folded))
    with torch.no_grad():
        folded.head.weight[0] *= 1.001  # of one weight alone, the feature may be zero for all images
    assert not reference.explains(reference.off(folded))
    with pytest.raises(UserError, match="something changes the outputs of this network by"):
        reference.check(folded, "something")


def test_rounding_that_a_network_amplifies_is_no_error() -> None:
    class Amplifies(Net):
        def forward(self, images):
            return (super().forward(images) * 1e5).sin()

    torch.manual_seed(0)
    network = Amplifies().eval()
    quantized, note = get_step("quantize", precision="fp16").apply(network, context())
    assert len(note["folded"]) == 2 and reference_noise(network) > 1e-3
    assert outputs(quantized).shape == outputs(network).shape


def reference_noise(network) -> float:
    return Reference.of("test", network, IMAGES).tolerance


def test_a_norm_whose_folding_is_wrong_by_measure_stays_with_the_number() -> None:
    class Hidden(torch.autograd.Function):
        """Reads a map in a way that functions of torch do not tell."""

        @staticmethod
        def forward(ctx, mapped):
            return mapped.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    class ReadsHidden(Net):
        def features(self, images):
            mapped = self.b(torch.relu(self.a_norm(self.a(images))))
            return torch.relu(self.b_norm(mapped)) + Hidden.apply(mapped)

    torch.manual_seed(0)
    network = ReadsHidden().eval()
    folded, pairs, left = fold_checked(network, Reference.of("test", network, IMAGES))
    assert pairs == [("a", "a_norm")] and difference(outputs(folded), outputs(network)) < 1e-5
    assert find_pairs(network, IMAGES[:1]) == pairs or "off by" in left["b_norm"]


def test_a_network_that_draws_random_numbers_is_compared_with_the_same_ones() -> None:
    class Draws(Net):
        def forward(self, images):
            return super().forward(images) + torch.rand(5)

    _, note = get_step("quantize").apply(Draws().eval(), context())
    assert note["left_float"] == {} and len(note["folded"]) == 2


def test_layers_that_cannot_be_replaced_together_are_found_one_by_one() -> None:
    class Counts(Net):
        def features(self, images):
            plain = sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in self.modules())
            return super().features(images) * plain

    torch.manual_seed(0)
    network = Counts().eval()
    reasons = irreplaceable(network, ["a", "b", "head"], Reference.of("test", network, IMAGES))
    assert set(reasons) == {"a", "b", "head"} and re.search(r"changes the outputs by 0\.[1-9]", reasons["a"])
    assert isinstance(network.a, nn.Conv2d)
    quantized, _ = get_step("quantize", precision="fp16").apply(network, context())
    assert difference(outputs(quantized), outputs(network)) < 0.01
    with pytest.raises(UserError, match="another module in its place changes the outputs by"):
        get_step("quantize").apply(network, context())


@dataclass(frozen=True, kw_only=True)
class Forgets(Quantize):
    """Builds something else from its note than it made."""

    def restore(self, model, note):
        restored = super().restore(model, note)
        restored.b_norm = nn.Tanh()
        return restored


def test_a_note_that_leads_to_something_else_is_an_error() -> None:
    again = "building its result again from its note changes the outputs .* by 0.[0-9]+ of"
    with pytest.raises(UserError, match=again):
        Forgets().apply(Net(), context())


def test_a_note_that_leads_nowhere_is_an_error() -> None:
    network = Net().eval()
    step = get_step("quantize")
    quantized, note = step.apply(network, context())
    check_restores(step, network, quantized, note, IMAGES)
    with pytest.raises(UserError, match=r"cannot be built again from its note, as storing it needs \(RuntimeError"):
        check_restores(step, network, quantized, note | {"layers": {}}, IMAGES)


def test_weights_that_a_hook_keeps_out_of_the_state_are_an_error() -> None:
    def without_bias(module, state, prefix, about):
        del state[f"{prefix}head.bias"]

    network = Net()
    network.register_state_dict_post_hook(without_bias)
    with pytest.raises(UserError, match=r"cannot be built again from its note.*RuntimeError"):
        get_step("quantize", precision="fp16").apply(network, context())


class MergedInPlace(nn.Module):
    """Two branches that `reparameterize` makes one layer of, in place and once only, as `RepMixer` of timm does."""

    def __init__(self):
        super().__init__()
        self.one, self.other, self.merged = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), None

    def forward(self, images):
        return self.merged(images) if self.merged is not None else self.one(images) + self.other(images)

    def reparameterize(self):
        self.merged = nn.Conv2d(3, 4, 3)
        self.merged.weight.data = self.one.weight.data + self.other.weight.data
        self.merged.bias.data = self.one.bias.data + self.other.bias.data
        del self.one, self.other


def test_branches_that_were_merged_in_place_are_not_merged_again():
    network, images = nn.Sequential(MergedInPlace()).eval(), torch.randn(2, 3, 8, 8)
    merged = reparameterize(network)
    assert merged is not network and reparameterize(merged) is merged
    torch.testing.assert_close(merged(images), network(images))
    quantized, _ = get_step("quantize", precision="int8").apply(network, Context(images[:1], calibration=images))
    assert get_backend("onnxruntime").compile(quantized, images[:1], "int8", images) is not None
