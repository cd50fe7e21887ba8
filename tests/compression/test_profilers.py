"""Time by operator: what the profilers of the runtimes tell of a network whose work is known."""

import numpy as np
import pytest
import torch
from torch import nn

from nasbench_compression import CompiledModel, get_backend
from nasbench_compression.compilation.onnxruntime_profile import module_name
from nasbench_compression.compilation.profiler import NoProfiler, is_product, product_macs
from nasbench_compression.timing import take_turns

CHANNELS, SIDE = 24, 16
STEM, MIDDLE = 3 * CHANNELS * 9 * SIDE**2, CHANNELS**2 * 9 * SIDE**2


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU())
        self.middle = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.head = nn.Linear(CHANNELS, 10)

    def forward(self, images):
        images = self.stem(images)
        return self.head((images + self.middle(images)).relu().mean((2, 3)))


def profiled(backend, precision, side=SIDE):
    torch.manual_seed(0)
    images = torch.randn(8, 3, side, side)
    if missing := get_backend(backend).why_unavailable():
        pytest.skip(missing)
    compiled = get_backend(backend).compile(Network().eval(), images[:1], precision, images)
    profiler, one = compiled.profiler(images[:1].numpy()), images[:1].numpy()
    turns = take_turns([lambda: compiled(one), profiler], lambda turns, _: len(turns[0]) >= 8, turn=5)
    return profiler.operators(float(np.median(np.concatenate(turns[0]))))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "eager"])
def test_products_have_their_channels_work_and_bytes(backend):
    products = [operator for operator in profiled(backend, "fp32") if is_product(operator.kind)]
    stem, middle, head = products
    assert min(product.seconds for product in products) > 0
    assert min(middle.channels) >= CHANNELS and head.channels == (CHANNELS, 10)  # or more, with padded channels
    assert all(product.precision == "fp32" for product in products)
    if backend != "eager":  # whose profile does not tell the size of outputs
        assert stem.macs >= STEM and middle.macs >= MIDDLE
    assert all(product.bytes > 0 for product in products)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_int8_graph_shows_its_casts_and_its_integer_kernels(backend):
    operators = profiled(backend, "int8")
    assert [operator.precision for operator in operators if is_product(operator.kind)] == ["int8"] * 3
    assert any(operator.cast for operator in operators)
    assert not any(operator.cast for operator in profiled(backend, "fp32"))


def test_a_cast_that_is_shorter_than_the_clock_counts_is_there():
    profile = profiled("openvino", "int8", side=2)
    assert any(operator.cast for operator in profile)  # which of them it is, depends on the processor
    assert min(operator.seconds for operator in profile) > 0
    assert not {operator.kind for operator in profile} & {"Const", "Input", "Output", "Reshape"}


def test_names_of_layers_and_what_was_fused_are_found_in_onnx_runtime():
    fused = [operator.parts for operator in profiled("onnxruntime", "fp32") if is_product(operator.kind)]
    assert [[module_name(part) for part in parts] for parts in fused] == [["stem.0", "stem.2"], ["middle"], ["head"]]


def test_a_pooling_in_blocks_of_channels_is_not_fused_with_the_layer_before_it():
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    images = torch.zeros(1, 3, SIDE, SIDE)
    if missing := get_backend("onnxruntime").why_unavailable():
        pytest.skip(missing)
    profiler = get_backend("onnxruntime").compile(nn.Sequential(*layers).eval(), images).profiler(images.numpy())
    profiler()
    fused = [operator.parts for operator in profiler.operators(1.0) if len(operator.parts) > 1]
    assert fused == [("/0/Conv", "/1/Relu")]


def test_names_of_modules_are_known_in_eager_mode():
    assert [operator.parts for operator in profiled("eager", "fp32") if is_product(operator.kind)] == [
        ("stem.0",),
        ("middle",),
        ("head",),
    ]


def test_a_runtime_without_a_profiler_says_so():
    class Silent(CompiledModel):
        why_not_profiled = "it is silent"
        save = bytes = None

        def describe(self):
            return {"backend": "silent"}

    with pytest.raises(NoProfiler, match=r"^backend 'silent' cannot be profiled: it is silent\.$"):
        Silent().profiler(np.zeros((1, 3, SIDE, SIDE), np.float32))


@pytest.mark.parametrize(
    ("kind", "product"),
    [
        ("QLinearConv", True),
        ("QLinearAdd", False),
        ("DequantizeLinear", False),
        ("linear", True),
        ("FusedMatMul", True),
        ("onednn qlinear_pointwise", True),
        ("FullyConnected", True),
        ("ReduceMean", False),
        ("comment", False),
    ],
)
def test_products_are_told_from_other_operators(kind, product):
    assert is_product(kind) is product


def test_macs_of_products():
    assert product_macs("Conv", (1, 8, 4, 4), (16, 4, 3, 3), (1, 16, 2, 2)) == 16 * 4 * 4 * 9
    assert product_macs("ConvTranspose", (1, 8, 4, 4), (8, 16, 2, 2), (1, 16, 8, 8)) == 8 * 16 * 16 * 4
    assert product_macs("Gemm", (2, 7), (7, 5), (2, 5)) == 70
    assert product_macs("Add", (2, 7), (2, 7), (2, 7)) is None
