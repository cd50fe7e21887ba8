"""Pruning and sparsity of networks in other types, with other outputs, and with shapes that a property tells."""

import json

import pytest
import torch
from awkward import IMAGES, Net, context, outputs
from test_types_and_forms import FORMS, Several
from torch import nn
from torch.nn import functional

from nasbench_compression import get_step
from nasbench_compression.outputs import tensors_of
from nasbench_registry import UserError

STEPS = [
    ("prune", {"ratio": 0.5}),
    ("prune", {"ratio": 0.5, "importance": "taylor", "global_ranking": True}),
    ("sparsify", {"sparsity": 0.5}),
    ("sparsify", {"sparsity": 0.5, "importance": "snip"}),
]


def applied(step, network, images=IMAGES):
    """What a step makes, after its note has been through JSON and has led to the same again."""
    name, options = step
    compressed, note = get_step(name, **options).apply(network, context(images))
    restored = get_step(name, **options).restore(network, json.loads(json.dumps(note, allow_nan=False)))
    restored.load_state_dict(compressed.state_dict(), strict=True)
    ours, theirs = (tensors_of(outputs(model, images)) for model in (compressed, restored))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    return compressed, note


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types(step, kind) -> None:
    torch.manual_seed(0)
    compressed, note = applied(step, Net().eval().to(kind), IMAGES.to(kind))
    assert {parameter.dtype for parameter in compressed.parameters()} == {kind}
    assert (
        note["params"][1] < note["params"][0] if step[0] == "prune" else note["density"] == pytest.approx(0.5, abs=0.01)
    )


@pytest.mark.parametrize("name", ["prune", "sparsify", "drop_layers"])
def test_a_type_that_the_images_have_not_is_a_sentence(name) -> None:
    options = {"prune": {"macs_ratio": 0.5}, "sparsify": {"sparsity": 0.5}, "drop_layers": {"count": 1}}[name]
    with pytest.raises(UserError, match=f"{name} cannot run this network, with weights of type float64, on .* float32"):
        get_step(name, **options).apply(Net().eval().double(), context())


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_several_outputs(step, form) -> None:
    torch.manual_seed(0)
    network = Several(FORMS[form]).eval()
    compressed, _ = applied(step, network)
    expected = {name: tensor.shape for name, tensor in tensors_of(outputs(network)).items()}
    assert {name: tensor.shape for name, tensor in tensors_of(outputs(compressed)).items()} == expected
    if step[0] == "prune":
        assert (
            compressed.head.in_features == compressed.auxiliary.in_features < 16
            and compressed.auxiliary.out_features == 5
        )


def test_a_map_that_is_an_output_stays() -> None:
    class Maps(Net):
        def forward(self, images):
            maps = self.b(functional.relu(self.a_norm(self.a(images))))
            return {"logits": self.head(functional.relu(self.b_norm(maps)).mean((2, 3))), "maps": maps}

    torch.manual_seed(0)
    pruned, note = applied(("prune", {"ratio": 0.5}), Maps().eval())
    assert pruned.b.out_channels == 16 and pruned.b.in_channels == pruned.a.out_channels == 6
    assert note["left_out"] == {}


class Wrapper(nn.Module):
    """As in timm: what it tells of its channels, it reads from its convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, outputs, 3, bias=False), nn.BatchNorm2d(outputs)

    @property
    def in_channels(self) -> int:
        return self.conv.in_channels

    @property
    def out_channels(self) -> int:
        return self.conv.out_channels

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


class Scale(nn.Module):
    """As in timm: it keeps the shape in which its parameter is read."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shape, self.scale = (channels, 1, 1), nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return x * self.scale.view(self.shape)


def test_shapes_that_a_property_tells_and_shapes_that_are_kept() -> None:
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))
    network = nn.Sequential(Wrapper(3, 16), Scale(16), Wrapper(16, 32), *head).eval()
    pruned, note = applied(("prune", {"ratio": 0.5}), network)
    assert pruned[0].out_channels == pruned[2].in_channels == 8 and pruned[1].shape == (8, 1, 1)
    assert set(note["shapes"]["0.conv"]["sizes"]) == {"out_channels"} and "0" not in note["shapes"]


class Nothing(nn.Module):
    def forward(self, images):
        return images.mean((2, 3))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_networks_without_layers() -> None:
    with pytest.raises(UserError, match=r"removes nothing .*\(no module of it is a convolution .* the classes Nothing"):
        get_step("prune", ratio=0.5).apply(Nothing(), context())
    with pytest.raises(UserError, match=r"no layer of this network to make sparse \(no module .* the classes Nothing"):
        get_step("sparsify", sparsity=0.5).apply(Nothing(), context())
    script = torch.jit.script(nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)))
    with pytest.raises(UserError, match="the classes RecursiveScriptModule"):
        get_step("prune", ratio=0.5).apply(script.eval(), context())
    torch.manual_seed(0)
    part = nn.Sequential(nn.BatchNorm2d(12), nn.ReLU())
    network = nn.Sequential(
        nn.Conv2d(3, 12, 3), torch.jit.script(part), nn.Conv2d(12, 8, 3), *[*script.children()][1:3]
    )
    network.append(nn.Linear(8, 5))
    pruned, note = get_step("prune", ratio=0.5).apply(network.eval(), context())
    assert note["left_out"] == {"0": "they meet 1: TorchScript has compiled it"} and pruned[2].out_channels == 4


class Branches(Net):
    """Does something else for bright images."""

    def forward(self, images):
        maps = self.a(images) if images.mean() < 1 else self.a(images).repeat_interleave(2, 1)[:, :12]
        return self.head(functional.relu(self.b_norm(self.b(maps))).mean((2, 3)))


def test_a_forward_that_does_something_else_for_real_images_is_a_sentence() -> None:
    torch.manual_seed(0)
    bright = IMAGES + 5
    with pytest.raises(UserError, match="runs on random images and fails on (example_inputs|calibration)"):
        get_step("prune", ratio=0.5).apply(Branches().eval(), context(bright))
