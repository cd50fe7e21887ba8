"""Code that reads a layer's weight, sizes, type or own attributes goes on reading them where the layer was replaced."""

import math

import pytest
import torch
from awkward import IMAGES, Net, context, outputs
from bounds import check_below
from torch import nn
from torch.nn import functional

from nasbench_compression import get_step
from nasbench_compression.decomposition.cp import CP
from nasbench_compression.decomposition.method import decompose_layer
from nasbench_compression.decomposition.svd import SVD
from nasbench_compression.decomposition.tensor_train import TensorTrain
from nasbench_compression.decomposition.tucker import Tucker
from nasbench_compression.outputs import difference
from nasbench_registry import UserError


class ReadsType(Net):
    def forward(self, images):
        return super().forward(images.to(self.a.weight.dtype).to(self.a.weight.device))


class ReadsShape(Net):
    def features(self, images):
        first = functional.relu(self.a_norm(self.a(images)))
        assert first.shape[1] == self.b.weight.shape[1] == self.b.in_channels and self.b.kernel_size == (3, 3)
        return functional.relu(self.b_norm(self.b(first)))


class ReadsSizes(Net):
    def forward(self, images):
        features = self.features(images).mean((2, 3))
        return self.head(features[:, : self.head.in_features])[:, : self.head.out_features]


class CosineClassifier(Net):
    def forward(self, images):
        return super().forward(images) / self.head.weight.norm(dim=1)


class OwnAttributes(Net):
    def __init__(self) -> None:
        super().__init__()
        self.head.temperature, self.b.halved = 2.0, lambda values: values * 0.5
        self.a_norm.scale = 3.0

    def forward(self, images):
        features = self.b.halved(self.features(images)).mean((2, 3)) * self.a_norm.scale
        return self.head(features) / self.head.temperature


class ClashingAttribute(Net):
    def __init__(self) -> None:
        super().__init__()
        self.head.scale = 5.0

    def forward(self, images):
        return super().forward(images) * self.head.scale


class PlainList(Net):
    def __init__(self) -> None:
        super().__init__()
        self.order, self.by_name = [self.a, self.a_norm], {"b": self.b, "b_norm": self.b_norm}

    def features(self, images):
        for layer in self.order:
            images = layer(images)
        return functional.relu(self.by_name["b_norm"](self.by_name["b"](functional.relu(images))))


class Functional(Net):
    """Bare parameters, a weight that is read but never called, and one that is called and read."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.mix = nn.Parameter(torch.randn(16, 16, 1, 1)), nn.Parameter(torch.randn(16, 16))
        self.read = nn.Linear(16, 16)

    def features(self, images):
        features = functional.conv2d(super().features(images), self.kernel)
        features = torch.einsum("nchw,cd->ndhw", features, self.mix)
        return functional.linear(features.movedim(1, -1), self.read.weight, self.read.bias).movedim(-1, 1)

    def forward(self, images):
        return functional.linear(super().forward(images), self.head.weight.t())[:, :5]


class Tied(Net):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.d = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.d.weight = self.c.weight
        self.again = self.c

    def features(self, images):
        features = super().features(images)
        return self.again(self.c(features)) + self.d(features)


class ChecksTheClass(Net):
    def features(self, images):
        assert isinstance(self.b, nn.Conv2d), "no Conv2d"
        return super().features(images)


NETWORKS = [ReadsType, ReadsShape, ReadsSizes, CosineClassifier, OwnAttributes, ClashingAttribute, PlainList]
NETWORKS += [Functional, Tied, ChecksTheClass]
QUANTIZATIONS = {
    "int8": {},
    "dynamic": {"method": "dynamic"},
    "weights": {"method": "weight_only"},
    "fp16": {"precision": "fp16"},
    "qat": {"method": "qat", "learning_rate": 1e-7},
    "mixed": {"precision": "mixed", "max_acc_drop_pct": 1},
}


@pytest.mark.parametrize("options", QUANTIZATIONS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_quantized(kind, options) -> None:
    torch.manual_seed(0)
    network = kind().eval()
    if kind is ClashingAttribute and options == "dynamic":
        with pytest.raises(UserError, match="no Linear for quantize method 'dynamic'; head: its attribute 'scale'"):
            get_step("quantize", method="dynamic").apply(network, context())
        return
    quantized, note = get_step("quantize", **QUANTIZATIONS[options]).apply(network, context())
    # Of all these networks `Functional` is the most sensitive; int4 has levels 18 times as far apart as int8.
    mean, sd = (-2.27, 0.45) if options == "mixed" else (-4.38, 0.5)
    log_difference = math.log(max(float(difference(outputs(quantized), outputs(network))), 1e-9))
    check_below("logarithm of the difference", log_difference, mean=mean, sd=sd, n=40)
    if kind is ClashingAttribute and options == "int8":
        assert (
            note["left_float"]["head"] == "its attribute 'scale' has a name that quantized layers need for themselves"
        )
    if kind is ChecksTheClass and options == "int8":
        assert "the network fails with another module in its place (AssertionError" in note["left_float"]["b"]
    if kind is Functional and options == "int8":
        assert note["left_float"] == {"read": "no image passes it as a module"}
    if kind is PlainList and options == "int8":
        assert not isinstance(quantized.order[0], nn.Conv2d) and quantized.order[0] is quantized.a


READ = "other code reads its weight while the network runs"
LEFT_ALONE = {
    ReadsType: {"a": READ},
    ReadsShape: {"b": READ},
    CosineClassifier: {"head": READ},
    Functional: {"head": READ, "read": "no image passes it as a module"},
    Tied: {"c": "it shares its weight with another module", "d": "it shares its weight with another module"},
    ChecksTheClass: {"b": "the network fails with another module in its place (AssertionError: no Conv2d)"},
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_decomposed(kind) -> None:
    torch.manual_seed(0)
    network = kind().eval()
    decomposed, note = get_step("decompose", method="svd", ratio=0.5).apply(network, context())
    assert note["left_alone"] == LEFT_ALONE.get(kind, {})
    assert bool(outputs(decomposed).isfinite().all())
    with torch.no_grad():  # with the weights that the chains stand for, the network gives what they give
        for name in note["layers"]:
            network.get_submodule(name).weight.copy_(decomposed.get_submodule(name).weight)
    assert difference(outputs(decomposed), outputs(network)) <= 1e-4


@pytest.mark.parametrize("method", [SVD(), CP(), Tucker(), TensorTrain()])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 3), (5, 1)])
def test_the_weight_of_a_chain_is_what_it_computes(method, kernel) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 6, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
    ranks = method.clip(layer, tuple(3 for _ in method.full_ranks(layer)))
    chain, _ = decompose_layer(method, layer, ranks)
    images = torch.randn(2, 8, 7, 7)
    with torch.no_grad():
        expected = functional.conv2d(images, chain.weight, chain.bias, padding=layer.padding)
    torch.testing.assert_close(chain(images), expected, atol=1e-5, rtol=1e-4)
    assert (chain.in_channels, chain.out_channels, chain.kernel_size) == (8, 6, kernel)
    assert not hasattr(chain, "in_features")


def test_a_network_that_reads_its_layers_is_pruned_after_it_was_decomposed() -> None:
    torch.manual_seed(0)
    network = ReadsSizes().eval()
    small, _ = get_step("decompose", method="svd", ratio=0.5).apply(network, context())
    smaller, note = get_step("prune", ratio=0.3, exclude=["head"]).apply(small, context())
    assert outputs(smaller).shape == (len(IMAGES), 5)
    assert note["shapes"]
