"""Every step on networks that run under torch.func or autocast, on batches of one size, from slots or TorchScript."""

import pytest
import torch
from awkward import IMAGES, Net, context, outputs
from torch import nn
from torch.nn import functional

from nasbench_compression import get_step
from nasbench_compression.copying import copy_network
from nasbench_registry import UserError

STEPS = [
    ("prune", {"ratio": 0.5}),
    ("prune", {"ratio": 0.5, "importance": "activation"}),
    ("sparsify", {"sparsity": 0.5}),
    ("decompose", {"method": "svd", "ratio": 0.5}),
    ("quantize", {"precision": "fp16"}),
    ("quantize", {"precision": "int8"}),
    ("quantize", {"precision": "int8", "method": "qat", "epochs": 1, "learning_rate": 1e-4}),
    ("distill", {"epochs": 1}),
]


class Mapped(Net):
    """Its layers see one image at a time."""

    def forward(self, images):
        def features(image):
            return functional.relu(self.b(functional.relu(self.a(image[None]))))[0]

        return self.head(torch.vmap(features)(images).mean((2, 3)))


class Slotted(Net):
    """Keeps a number, a tensor and a function of itself outside of its dictionary."""

    __slots__ = ("__factor", "scale", "weigh")

    def __init__(self) -> None:
        super().__init__()
        self.__factor = 0.5
        self.scale = torch.tensor(2.0)
        self.weigh = lambda features: features * self.a.weight.abs().mean()

    def forward(self, images):
        return self.head(self.weigh(self.features(images)).mean((2, 3))) * self.__factor * self.scale


class Autocast(Net):
    """A residual block that runs in bfloat16 within its network only."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Residual(16)

    def forward(self, images):
        features = self.features(images)
        with torch.autocast("cpu", torch.bfloat16):
            features = self.block(features.bfloat16())
        return self.head(features.float().mean((2, 3)))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.body(x)


class Pairs(Net):
    """Takes two images, and no other number of them."""

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)).view(2, 16))


class Sum(Net):
    """Gives one number for all images."""

    def forward(self, images):
        return super().forward(images).sum()


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("kind", [Mapped, Slotted])
def test_every_step_ends_in_a_network(kind, step) -> None:
    torch.manual_seed(0)
    network = kind().eval()
    before = outputs(network)
    name, options = step
    compressed, _ = get_step(name, **options).apply(network, context(teacher=network))
    assert outputs(compressed).shape == before.shape and outputs(compressed).isfinite().all()
    assert torch.equal(outputs(network), before)
    if name == "quantize":
        assert (outputs(compressed) - before).abs().max() < 0.1 * before.abs().max()


def test_what_is_in_slots_is_copied_and_knows_the_copy() -> None:
    network = Slotted().eval()
    copied = copy_network(network)
    before = outputs(network)
    with torch.no_grad():
        network.a.weight.zero_()
        network.scale.zero_()
    assert torch.equal(outputs(copied), before) and not torch.equal(outputs(network), before)


def test_a_block_that_fails_outside_of_its_network_stays_with_the_reason() -> None:
    network = Autocast().eval()
    with pytest.raises(
        UserError, match="block: what it computes is not seen, for it fails without the network around it"
    ):
        get_step("drop_layers", count=1).apply(network, context())


@pytest.mark.parametrize("step", STEPS[:-1], ids=str)
def test_a_network_for_one_size_of_batches_is_refused_in_a_sentence(step) -> None:
    name, options = step
    with pytest.raises(UserError, match=f"{name} runs this network on batches of any size.*let its forward take"):
        get_step(name, **options).apply(Pairs().eval(), context(IMAGES[:2], torch.arange(2)))


def test_precision_of_layers_is_not_chosen_by_one_number() -> None:
    with pytest.raises(UserError, match=r"gives \(\) for 32 images"):
        get_step("quantize", precision="mixed", max_acc_drop_pct=1).apply(Sum().eval(), context())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_torchscript_compiled_learns_and_teaches_and_shows_no_maps() -> None:
    student = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), torch.jit.script(nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()))),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    )
    teacher = torch.jit.script(Net()).eval()
    distilled, _ = get_step("distill", epochs=1).apply(student, context(teacher=teacher))
    assert not torch.equal(distilled[0].weight, student[0].weight)
    with pytest.raises(UserError, match="'1' in distill student_layers is compiled by TorchScript"):
        get_step("distill", epochs=1, method="fitnets", student_layers=["1"], teacher_layers=["0"]).apply(
            student, context(teacher=copy_network(student))
        )


def test_a_sparse_buffer_is_cast() -> None:
    network = Net().eval()
    network.register_buffer("table", torch.eye(5).to_sparse())
    network.register_forward_hook(lambda module, images, output: torch.sparse.mm(module.table, output.t()).t())
    quantized, _ = get_step("quantize", precision="fp16").apply(network, context())
    assert (outputs(quantized) - outputs(network)).abs().max() < 0.01 * outputs(network).abs().max()
