"""Inductor, in the process and ahead of time."""

import os
import subprocess
import sys

import numpy as np
import pytest
import side_by_side
import torch
from torch import nn

from nasbench_compression import CompiledModel, get_backend, get_step
from nasbench_compression.compilation.inductor import cache_by_vector_unit, kernels
from nasbench_compression.quantization.modules import QuantizedConv2d
from nasbench_registry import UserError

LOAD = """
import sys, numpy, torch
from nasbench_compression import get_backend
loaded = get_backend(sys.argv[1]).load(sys.argv[2])
numpy.save(sys.argv[4], loaded(numpy.load(sys.argv[3])))
"""
COMPILED = """
import torch
from nasbench_compression.compilation.inductor import torch_compiled
network = torch_compiled(torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Dropout(0.3), torch.nn.Linear(64, 4)))
for _ in range(3):
    network(torch.ones(64, 16))
print(torch.backends.cpu.get_cpu_capability())
"""
pytestmark = pytest.mark.skipif(
    get_backend("torch_compile").why_unavailable() is not None,
    reason=str(get_backend("torch_compile").why_unavailable()),
)
both = pytest.mark.parametrize("name", ["torch_compile", "aot_inductor"])


@pytest.fixture(scope="module")
def float_models(_trained, context) -> dict[str, CompiledModel]:
    """The plain network in float32 by each backend."""
    model = _trained("plain")
    return {
        name: get_backend(name).compile(model, context.example_inputs) for name in ("torch_compile", "aot_inductor")
    }


@both
def test_what_was_fused_and_folded_is_told(float_models, name) -> None:
    described = float_models[name].describe()
    before, after = described["operators"], described["operators_optimized"]
    assert before["conv2d"] == 3 and before["linear"] == 2 and "batch_norm" not in before
    assert before["relu"] + before.get("relu_", 0) == 4
    assert after["_convolution_pointwise"] == 3
    assert sum(after[kind] for kind in after if "linear" in kind) == 2
    assert not [kind for kind in after if kind.startswith("cpp_fused_relu")], "activations are fused into convolutions"
    assert sum(after.values()) < sum(before.values())


@both
def test_saved_runs_in_a_fresh_process(float_models, context, tmp_path, name) -> None:
    images = context.calibration[:6].numpy()
    np.save(tmp_path / "images.npy", images)
    float_models[name].save(tmp_path)
    paths = [str(tmp_path), str(tmp_path / "images.npy"), str(tmp_path / "logits.npy")]
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", LOAD, name, *paths],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout == "" and done.stderr == "", done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), float_models[name](images), atol=1e-6)


def test_a_package_keeps_the_threads_of_its_code(float_models, context, tmp_path) -> None:
    float_models["aot_inductor"].save(tmp_path)
    loaded = get_backend("aot_inductor", threads=2).load(tmp_path)
    described = loaded.describe()
    assert described["threads"] == 2 and described["compiled_threads"] == 1 and described["precision"] == "fp32"
    images, before = context.calibration[:6].numpy(), torch.get_num_threads()
    np.testing.assert_allclose(loaded(images), float_models["aot_inductor"](images), atol=1e-5)
    assert torch.get_num_threads() == before


def test_models_of_one_architecture_are_not_mixed_up(context) -> None:
    images, pairs = context.calibration[:3], []
    for seed in range(3):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
        pairs.append((model, get_backend("torch_compile").compile(model, context.example_inputs)))
        torch._dynamo.reset()  # as other code in the process may
        for network, compiled in pairs:
            with torch.no_grad():
                np.testing.assert_allclose(compiled(images.numpy()), network(images).numpy(), atol=1e-5)


def test_bf16_is_stored_and_computed(plain, float_models, context) -> None:
    compiled = get_backend("torch_compile").compile(plain, context.example_inputs, "bf16")
    images = context.calibration.numpy()
    exact = float_models["torch_compile"](images)
    logits = compiled(images)
    assert logits.dtype == np.float32 and 0 < np.abs(logits - exact).max() < 0.05 * np.abs(exact).max()
    weights = sum(parameter.numel() for parameter in plain.parameters())
    assert compiled.bytes < float_models["torch_compile"].bytes - 1.5 * weights
    assert compiled.describe()["operators_optimized"]["_linear_pointwise"] == 2  # oneDNN's, which has bfloat16


def test_int8_keeps_the_grid_and_runs_on_integer_kernels(plain, context, tmp_path) -> None:
    quantized, _ = get_step("quantize").apply(plain, context)
    backend = get_backend("torch_compile")
    compiled = backend.compile(quantized, context.example_inputs, "int8", context.calibration)
    after = compiled.describe()["operators_optimized"]
    assert after["qconv_pointwise"] == 3 and after["qlinear_pointwise"] == 2 and "_convolution_pointwise" not in after

    program = torch.export.load(compiled.save(tmp_path))
    stored = [value for value in program.state_dict.values() if value.dtype == torch.int8]
    layers = [module for module in quantized.modules() if hasattr(module, "weight_int8")]
    assert len(stored) == len(layers) == 5
    for layer in layers:
        assert any(torch.equal(layer.weight_int8, value) for value in stored if value.shape == layer.weight_int8.shape)
    loaded = backend.load(tmp_path)
    assert loaded.describe() == compiled.describe()
    images = context.calibration[:6].numpy()
    np.testing.assert_array_equal(loaded(images), compiled(images))


def test_layers_left_float_stay_float(context) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 10)).eval()
    quantized, _ = get_step("quantize").apply(model, context)
    quantized[0] = quantized[0].to_float()
    assert isinstance(quantized[2], QuantizedConv2d)
    compiled = get_backend("torch_compile").compile(quantized, context.example_inputs, "int8", context.calibration)
    after = compiled.describe()["operators_optimized"]
    assert after["qconv_pointwise"] == 1 and after["_convolution_pointwise"] == 1 and after["qlinear_pointwise"] == 1


def test_kernels_are_counted_in_code_of_both_languages() -> None:
    python = """
        cpp_fused_relu_0(arg0, buf0)
        buf1 = torch.ops.mkldnn._convolution_pointwise.default(buf0, weight, 'relu')
        cpp_fused_relu_1(buf1, buf2)
        extern_kernels.addmm(bias, buf2, weight, out=buf3)
    """
    cpp = """
    cpp_fused_relu_0((const float*)(arg.data_ptr()));
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mkldnn__convolution_pointwise(buf0, weight));
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(2, sizes));
    """
    assert kernels(python) == {"_convolution_pointwise": 1, "addmm": 1, "cpp_fused_relu": 2}
    assert kernels(cpp) == {"_convolution_pointwise": 1, "cpp_fused_relu": 1}


def test_options_and_a_missing_compiler_are_named(monkeypatch) -> None:
    with pytest.raises(UserError, match="mode"):
        get_backend("torch_compile", mode="fastest")
    monkeypatch.setenv("CXX", "no-such-compiler")
    for name in ("torch_compile", "aot_inductor"):
        reason = get_backend(name).why_unavailable()
        assert reason is not None and "no-such-compiler" in reason and "C++ compiler" in reason


@pytest.mark.sweep
@both
@pytest.mark.parametrize("parts", [side_by_side.blocks, side_by_side.spaces], ids=["blocks", "spaces"])
def test_blocks_and_spaces_agree_with_eager(name, parts) -> None:
    names, network = parts()
    compiled = get_backend(name).compile(network, torch.zeros(2, *side_by_side.TASK.input_shape))
    errors = side_by_side.largest_errors(names, network, compiled)
    assert max(errors.values()) < 1e-4, errors


def test_the_cache_tells_vector_units_apart_unless_the_user_has_tagged_it() -> None:
    from torch.compiler import config

    for before, after in (("", torch.backends.cpu.get_cpu_capability()), ("mine", "mine")):
        with config.patch(cache_key_tag=before):
            cache_by_vector_unit()
            assert config.cache_key_tag == after


@pytest.mark.slow
def test_processes_with_other_vector_units_share_a_cache_folder(tmp_path) -> None:
    """Code for 8 numbers at a time, compiled for 16, writes beyond its arrays: the second process used to abort."""
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    shared.pop("TORCH_COMPILE_CACHE_KEY_TAG", None)  # the tests set it
    for changes in ({"ATEN_CPU_CAPABILITY": "avx2"}, {}):
        done = subprocess.run(
            [sys.executable, "-c", COMPILED], env=shared | changes, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-1000:]
