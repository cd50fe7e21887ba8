"""LiteRT: files made in another environment, run in this one. A conversion takes seconds, so there are few."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from test_prune_spaces import SMALL
from tests_support import check_agreement
from torch import nn

from nasbench_compression import get_backend, get_step
from nasbench_compression.compilation.litert import LiteRt
from nasbench_compression.quantization.layers import entry_of, prepare, put
from nasbench_compression.quantization.modules import QuantizedConv2d, QuantizedLinear
from nasbench_registry import UserError
from search_spaces import Task, get_space
from search_spaces.blocks.registry import BLOCKS

pytestmark = pytest.mark.only_where(LiteRt.why_unavailable() is None)
SPACES = ("nasbench201",)


@pytest.fixture(scope="module")
def saved(_trained, digits, tmp_path_factory):
    """A folder with the float file of the plain network, and its logits of seven images."""
    folder = tmp_path_factory.mktemp("litert")
    compiled = LiteRt().compile(_trained("plain"), digits.train_images[:4])
    compiled.save(folder)
    return folder, compiled(digits.val_images[:7].numpy())


class Together(nn.Module):
    """Several networks on the same images, their logits side by side."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x):
        return torch.cat([network(x) for network in self.networks], dim=1)


@pytest.mark.sweep
def test_blocks_and_networks_agree_with_torch() -> None:
    """All in one file: every block in a chain, and a network of cells."""
    torch.manual_seed(0)
    blocks = [block(16, 16) for block in BLOCKS.values()]
    stem, head = nn.Conv2d(3, 16, 3, padding=1), (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    networks: list[nn.Module] = [nn.Sequential(stem, *blocks, *head)]
    for name in SPACES:
        space = get_space(name, **SMALL.get(name, {}))
        networks.append(space.build(space.sample(np.random.default_rng(7)), Task((3, 9, 12), 10)))
    model, images = Together(networks).eval(), torch.randn(2, 3, 9, 12)
    with torch.no_grad():
        expected = model(images).numpy()
    outputs = LiteRt().compile(model, images)(images.numpy())
    np.testing.assert_allclose(outputs, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_a_file_needs_the_runtime_alone(saved, digits, monkeypatch, tmp_path, plain) -> None:
    folder, logits = saved
    images = digits.val_images[:7].numpy()
    monkeypatch.chdir(tmp_path)
    for value in ("", "/no/such/python"):
        monkeypatch.setenv("NASBENCH_LITERT_PYTHON", value)
        reason = LiteRt.why_unavailable()
        assert reason is not None and "make litert" in reason
        with pytest.raises(UserError, match="make litert"):
            LiteRt().compile(plain, digits.train_images[:4])
    np.testing.assert_array_equal(get_backend("litert").load(folder)(images), logits)
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, numpy as np\nfrom nasbench_compression import get_backend\n"
        "np.save(sys.argv[3], get_backend('litert').load(sys.argv[1])(np.load(sys.argv[2])))"
    )
    paths = [str(folder / "model.tflite"), "images.npy", "logits.npy"]
    completed = subprocess.run([sys.executable, "-c", program, *paths], check=True, timeout=120, capture_output=True)
    assert completed.stdout == completed.stderr == b""
    np.testing.assert_array_equal(np.load("logits.npy"), logits)
    with pytest.raises(UserError, match="there is no file"):
        LiteRt().load(tmp_path / "elsewhere")


def test_what_was_fused_is_told(saved) -> None:
    described = LiteRt().load(saved[0]).describe()
    assert described["precision"] == "fp32" and described["batch"] == 4
    assert described["operators"]["conv2d"] == 3 and described["operators"]["batch_norm"] >= 1
    assert (
        described["operators_optimized"]["CONV_2D"] + described["operators_optimized"].get("DEPTHWISE_CONV_2D", 0) == 3
    )
    assert not {"RELU", "MUL", "ADD"} & set(described["operators_optimized"])


def test_a_quantized_network_keeps_its_weights_and_ranges(plain, context) -> None:
    """With int8 inputs and outputs, which a call converts."""
    from ai_edge_litert.interpreter import Interpreter

    quantized, _ = get_step("quantize").apply(plain, context)
    compiled = LiteRt(float_ends=False).compile(quantized, context.example_inputs, "int8", context.calibration)
    interpreter = Interpreter(model_content=compiled.artefact)
    interpreter.allocate_tensors()
    assert interpreter.get_input_details()[0]["dtype"] == interpreter.get_output_details()[0]["dtype"] == np.int8
    layers = [module for module in quantized.modules() if isinstance(module, QuantizedConv2d | QuantizedLinear)]
    stored, steps = [], []
    for details in interpreter.get_tensor_details():
        if details["dtype"] == np.int8 and len(details["quantization_parameters"]["scales"]):
            steps += list(details["quantization_parameters"]["scales"])
            if details["name"] and len(details["quantization_parameters"]["scales"]) > 1:
                stored.append(interpreter.get_tensor(details["index"]))
    for layer in layers:
        levels = layer.weight_int8.numpy()
        forms = [levels] if levels.ndim == 2 else [levels.transpose(0, 2, 3, 1), levels.transpose(1, 2, 3, 0)]
        assert any(np.array_equal(form, entry) for form in forms for entry in stored)
        assert np.isclose(steps, float(layer.input_scale), rtol=1e-4).any()
    logits = compiled(context.calibration[:64].numpy())
    with torch.no_grad():
        expected = quantized(context.calibration[:64]).numpy()
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


def test_float_layers_of_a_quantized_network_stay_float(plain, context, digits) -> None:
    prepared, _ = prepare(plain, context.calibration)
    convolutions = [name for name, layer in prepared.layers().items() if isinstance(layer, nn.Conv2d)]
    partly = put(prepared.model, {name: entry_of("static", prepared.ranges[name]) for name in convolutions})
    compiled = LiteRt().compile(partly, context.example_inputs, "int8", context.calibration)
    assert compiled.describe()["operators_optimized"]["DEQUANTIZE"] >= 1
    check_agreement(compiled, partly, digits.val_images, context.evaluate)
    weights = plain.classifier.weight.detach().numpy().tobytes()
    assert weights in compiled.artefact


def test_half_is_stored_and_float_computed(plain, context) -> None:
    compiled = LiteRt().compile(plain, context.example_inputs, "fp16")
    assert plain.classifier.weight.detach().numpy().astype(np.float16).tobytes() in compiled.artefact
    images = context.calibration[:16]
    with torch.no_grad():
        expected = plain(images).numpy()
    assert 1e-6 < np.abs(compiled(images.numpy()) - expected).max() < 0.01 * np.abs(expected).max()


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UserError, match="float_ends is 1"):
        get_backend("litert", float_ends=1)
