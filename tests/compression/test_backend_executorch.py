"""ExecuTorch with XNNPACK."""

import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
import side_by_side
import torch
from torch import nn

from nasbench_compression import CompiledModel, get_backend, get_step
from nasbench_compression.compilation.executorch_pool import Pool

MISSING = get_backend("executorch").why_unavailable()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
LOAD = """
import sys, numpy
from nasbench_compression import get_backend
loaded = get_backend("executorch").load(sys.argv[1])
numpy.save(sys.argv[3], loaded(numpy.load(sys.argv[2])))
loaded.describe()
"""


@pytest.fixture(scope="module")
def compiled_plain(_trained, context) -> CompiledModel:
    """The plain network in float32."""
    return get_backend("executorch").compile(_trained("plain"), context.example_inputs)


def test_what_was_fused_and_delegated_is_told(compiled_plain) -> None:
    described = compiled_plain.describe()
    before, after = described["operators"], described["operators_optimized"]
    assert before["conv2d"] == 3 and before["linear"] == 2 and "batch_norm" not in before
    assert before["relu"] + before.get("relu_", 0) == 4
    assert after["XNNConv2d"] == 2 and after["XNNDepthwiseConv2d"] == 1  # it takes the layer of one input channel so
    assert after["XNNFullyConnected"] == 2
    assert "XNNClamp" not in after, "activations are fused into the layers"
    assert described["left"] == {name: count for name, count in after.items() if not name.startswith("XNN")}


def test_operators_that_xnnpack_lacks_are_left(context) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.LayerNorm(144), nn.Linear(144, 10)).eval()
    compiled = get_backend("executorch").compile(model, context.example_inputs)
    assert compiled.describe()["left"]["native_layer_norm"] == 1
    images = context.calibration[:6]
    with torch.no_grad():
        np.testing.assert_allclose(compiled(images.numpy()), model(images).numpy(), atol=1e-4)


def test_saved_runs_in_a_fresh_process(compiled_plain, context, tmp_path) -> None:
    images = context.calibration[:6].numpy()
    np.save(tmp_path / "images.npy", images)
    compiled_plain.save(tmp_path)
    paths = [str(tmp_path), str(tmp_path / "images.npy"), str(tmp_path / "logits.npy")]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *paths],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout == "" and done.stderr == "", done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), compiled_plain(images))


def test_models_with_other_threads_take_turns(compiled_plain, context, tmp_path) -> None:
    from executorch.extension.pybindings import portable_lib

    compiled_plain.save(tmp_path)
    images = context.calibration[:6].numpy()
    wanted = compiled_plain(images)
    two = get_backend("executorch", threads=2).load(tmp_path)
    assert two.describe()["threads"] == 2
    compiled_plain(images)
    before = weakref.ref(Pool.programs[compiled_plain].load_method("forward"))
    two(images)
    assert before() is None, "its threads are gone, and the next call would look for them"
    for _ in range(500):
        np.testing.assert_allclose(two(images), wanted, atol=1e-5)
        assert portable_lib._threadpool_get_thread_count() == 2
        np.testing.assert_array_equal(compiled_plain(images), wanted)
        assert portable_lib._threadpool_get_thread_count() == 1


def test_int8_keeps_the_grid(plain, context) -> None:
    quantized, _ = get_step("quantize").apply(plain, context)
    compiled = get_backend("executorch").compile(quantized, context.example_inputs, "int8", context.calibration)
    layers = [module for module in quantized.modules() if hasattr(module, "weight_int8")]
    assert len(layers) == 5
    for layer in layers:
        levels = layer.weight_int8
        orders = (
            [(0, 2, 3, 1), (1, 2, 3, 0)] if levels.ndim == 4 else [(0, 1)]
        )  # channels last; or first ones, if depthwise
        stored = [levels.permute(order).contiguous().numpy().tobytes() for order in orders]
        assert any(form in compiled.artefact for form in stored)
    after = compiled.describe()["operators_optimized"]
    assert after["XNNConv2d"] == 2 and after["XNNDepthwiseConv2d"] == 1  # it takes the layer of one input channel so
    assert after["XNNFullyConnected"] == 2


def test_layers_left_float_stay_float(context) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 10)).eval()
    quantized, _ = get_step("quantize").apply(model, context)
    quantized[0] = quantized[0].to_float()
    compiled = get_backend("executorch").compile(quantized, context.example_inputs, "int8", context.calibration)
    rounded = compiled.describe()["operators"]["dequantize_per_channel"]
    assert rounded == 2, "the weights of the two other layers"


@pytest.mark.sweep
@pytest.mark.parametrize("parts", [side_by_side.blocks, side_by_side.spaces], ids=["blocks", "spaces"])
def test_blocks_and_spaces_agree_with_eager(parts) -> None:
    names, network = parts()
    compiled = get_backend("executorch").compile(network, torch.zeros(2, *side_by_side.TASK.input_shape))
    errors = side_by_side.largest_errors(names, network, compiled)
    assert max(errors.values()) < 1e-4, errors
