"""NaN and infinite weights and images are refused with where they are and how many; notes are JSON."""

import json

import pytest
import torch
from awkward import IMAGES, Net, context, outputs
from torch import nn

from nasbench_compression import get_step
from nasbench_registry import UserError

STEPS = {
    "int8": ("quantize", {}),
    "entropy": ("quantize", {"calibration": "entropy"}),
    "mixed": ("quantize", {"precision": "mixed", "max_acc_drop_pct": 1}),
    "int4": ("quantize", {"precision": "int4"}),
    "bf16": ("quantize", {"precision": "bf16"}),
    "svd": ("decompose", {"method": "svd"}),
    "cp": ("decompose", {"method": "cp", "rank": 2}),
    "vbmf": ("decompose", {"method": "tucker", "rank_rule": "vbmf"}),
    "distill": ("distill", {"epochs": 1}),
}
NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("where", "value"), [("b.weight", NAN), ("b.weight", INFINITE), ("a_norm.running_var", NAN)])
def test_weights_and_statistics_are_refused(step, where, value) -> None:
    network = Net().eval()
    tensor = network.state_dict()[where]
    tensor.flatten()[3:5] = value
    name, options = STEPS[step]
    with pytest.raises(
        UserError, match=rf"{name} needs finite weights.*: {where} has 2 of its {tensor.numel()} values"
    ):
        get_step(name, **options).apply(network, context(teacher=Net()))


@pytest.mark.parametrize("step", STEPS)
def test_images_are_refused(step) -> None:
    images = IMAGES.clone()
    images[1, 0, 2, 2], images[5, 0, 0] = NAN, INFINITE
    name, options = STEPS[step]
    counts = "9 values that are NaN or infinite, in 2 of" if name == "quantize" else "1 values .* in 1 of 2"
    with pytest.raises(UserError, match=f"{name} needs finite images.* has {counts} .*images, .* is number 1;"):
        get_step(name, **options).apply(Net().eval(), context(images, teacher=Net()))


def test_a_teacher_of_nan_is_refused() -> None:
    teacher = Net()
    teacher.head.bias.data[0] = NAN
    with pytest.raises(UserError, match=r"distill \(its teacher\) needs finite weights.*head.bias has 1 of its 5"):
        get_step("distill", epochs=1).apply(Net(), context(teacher=teacher))


def test_a_mask_of_infinities_is_no_broken_weight_and_infinite_inputs_leave_a_layer_in_float() -> None:
    class Masked(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.tensor([0.0, 0, 0, 0, -INFINITE]))
            self.last = nn.Linear(5, 5)

        def forward(self, images):
            return self.last(super().forward(images) + self.mask).softmax(1).nan_to_num()

    for method in ("min_max", "percentile", "entropy"):
        quantized, note = get_step("quantize", calibration=method).apply(Masked().eval(), context())
        json.dumps(note, allow_nan=False)
        assert note["left_float"]["last"] == "its inputs are not finite for some image"
        assert bool(outputs(quantized).isfinite().all())


def test_the_note_of_a_layer_that_does_not_bear_few_bits_is_json() -> None:
    class Overflows(Net):
        def forward(self, images):
            return super().forward(images) * 3e38 * 20

    torch.manual_seed(0)
    network = Overflows().eval()
    assert bool(outputs(network).isinf().any())
    _, note = get_step("quantize", precision="mixed", max_acc_drop_pct=1).apply(network, context())
    json.dumps(note, allow_nan=False)
    assert any(entry["divergence"] is None for entry in note["sensitivity"])


@pytest.mark.parametrize("step", ["int8", "svd", "bf16"])
def test_layers_without_weights_yet_are_refused(step) -> None:
    network = nn.Sequential(nn.LazyConv2d(8, 3), nn.Flatten(), nn.LazyLinear(5))
    name, options = STEPS[step]
    with pytest.raises(UserError, match="0 is a LazyConv2d that no image has passed yet"):
        get_step(name, **options).apply(network, context())
    with pytest.raises(UserError, match="a.weight is on the device 'meta', without values"):
        get_step(name, **options).apply(Net().to("meta"), context())
    network(IMAGES)
    get_step(name, **options).apply(network, context())


def test_a_frozen_network_is_not_fine_tuned() -> None:
    for name, options in (("distill", {}), ("decompose", {"method": "svd"}), ("quantize", {"method": "qat"})):
        with pytest.raises(UserError, match="no weight that requires a gradient"):
            get_step(name, epochs=1, **options).apply(Net().requires_grad_(False), context(teacher=Net()))
