"""OpenVINO: what it computes in which type, its two files, its streams."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_prune_spaces import CASES, TASK, build
from torch import nn

from nasbench_compression import get_backend, get_step
from nasbench_compression.compilation.openvino import OpenVino
from nasbench_compression.quantization.modules import QuantizedConv2d, QuantizedLinear
from nasbench_registry import UserError

SPACES = ("darts", "fbnet", "mobile", "nasbench201", "resnet", "vit")
CHOSEN = [(kind, name) for kind, name in CASES if kind == "block" or name in SPACES]


@pytest.mark.parametrize(("kind", "name"), CHOSEN, ids=lambda value: value)
def test_float_agrees_with_torch(kind, name) -> None:
    model = build(kind, name)
    images = torch.randn(2, *TASK.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images).numpy()
    output = OpenVino().compile(model, images)(images.numpy())
    np.testing.assert_allclose(output, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def logits(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model(images).numpy()


def test_each_precision_is_computed_as_it_says(plain, context) -> None:
    images = context.calibration[:8]
    expected = logits(plain, images)
    models = {
        precision: OpenVino().compile(plain, images, precision, context.calibration)
        for precision in OpenVino.precisions
    }
    computed = {precision: compiled.describe()["computed_in"] for precision, compiled in models.items()}
    errors = {precision: np.abs(compiled(images.numpy()) - expected).max() for precision, compiled in models.items()}
    assert set(computed["fp32"]) == {"f32"} and errors["fp32"] < 1e-4
    assert set(computed["fp16"]) == {"f32"} and 1e-6 < errors["fp16"] < 0.01 * np.abs(expected).max()
    weights = 4 * sum(parameter.numel() for parameter in plain.parameters())
    assert models["fp32"].bytes - models["fp16"].bytes > 0.4 * weights  # half, less what casts add
    assert computed["int8"]["i8"] >= 5 and models["int8"].bytes < models["fp16"].bytes
    if "bf16" in models:
        assert computed["bf16"]["bf16"] >= 5 and 1e-4 < errors["bf16"] < 0.05 * np.abs(expected).max()


def test_what_was_fused_is_told(plain, context) -> None:
    described = OpenVino().compile(plain, context.example_inputs).describe()
    assert described["operators"]["Convolution"] == described["operators_optimized"]["Convolution"] == 3
    assert described["operators"]["Relu"] == 4 and "Relu" not in described["operators_optimized"]


def test_a_quantized_network_keeps_its_weights_and_ranges(plain, context) -> None:
    quantized, _ = get_step("quantize").apply(plain, context)
    compiled = OpenVino().compile(quantized, context.example_inputs, "int8", context.calibration)
    assert compiled.describe()["computed_in"]["i8"] >= 5
    stored = [
        node.data
        for node in compiled._model.get_ops()
        if node.get_type_name() == "Constant" and node.get_element_type().to_string() == "i8" and node.data.ndim > 1
    ]
    for layer in quantized.modules():
        if isinstance(layer, QuantizedConv2d | QuantizedLinear) and not compiled.describe()["half_range_weights"]:
            weight = layer.weight_int8.numpy()
            forms = [weight, weight.T] if weight.ndim == 2 else [weight]
            assert any(np.array_equal(form, entry) for form in forms for entry in stored)
    output, expected = compiled(context.calibration[:64].numpy()), logits(quantized, context.calibration[:64])
    assert np.abs(output - expected).max() < 0.1 * np.abs(expected).max()


WITHOUT_VNNI = """
import json
import sys

import numpy as np
import torch
from torch import nn

from nasbench_compression import Context, get_backend, get_step
from nasbench_compression.compilation import openvino
from nasbench_registry import WorkFailed

if not openvino.cuts_off_sums():
    print(json.dumps(None))
    sys.exit()
torch.manual_seed(0)
layers = [nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU()]
network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)).eval()
with torch.no_grad():  # of one sign, and images bright, so that sums of two products are large
    for layer in (network[0], network[2]):
        layer.weight.abs_()
images = 0.5 + 0.5 * torch.rand(32, 3, 16, 16)
quantized, _ = get_step("quantize").apply(network, Context(images[:1], calibration=images))
found = {}
for half_range in (True, False):
    openvino.cuts_off_sums = lambda: half_range
    for name, model in (("float", network), ("quantized", quantized)):
        with torch.no_grad():
            expected = model(images).numpy()
        try:
            compiled = get_backend("openvino").compile(model, images[:1], "int8", images)
        except WorkFailed:
            found[f"{name} {half_range}"] = {"error": 1.0}
            continue
        path = compiled.save(f"{name}-{half_range}")
        loaded = get_backend("openvino").load(path).describe()
        weights = [node.data for node in compiled._model.get_ops() if node.get_type_name() == "Constant"]
        found[f"{name} {half_range}"] = {
            "error": float(np.linalg.norm(compiled(images.numpy()) - expected) / np.linalg.norm(expected)),
            "half_range": loaded["half_range_weights"],
            "computed_in": loaded["computed_in"].get("i8", 0),
            "largest": max(int(np.abs(weight.astype(int)).max()) for weight in weights if weight.dtype == np.int8),
        }
print(json.dumps(found))
"""


def test_without_vnni_weights_take_half_of_the_range_and_sums_are_not_cut_off(tmp_path) -> None:
    """In a process of its own, in which oneDNN and OpenVINO do without the newer instructions."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    program = [sys.executable, "-c", WITHOUT_VNNI]
    ended = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    results = json.loads(ended.stdout.splitlines()[-1])
    if results is None:
        pytest.skip("OpenVINO does not heed ONEDNN_MAX_CPU_ISA on this processor")
    for name in ("float", "quantized"):
        half = results[f"{name} True"]
        assert half["half_range"] and half["computed_in"] >= 3 and half["largest"] <= 64
        # By construction: 255 x 127 + 255 x 127 is twice what fits.
        assert results[f"{name} False"]["error"] > 2 * half["error"]


def test_both_files_are_counted_and_load_in_another_process(plain, context, tmp_path) -> None:
    images = context.calibration[:6].numpy()
    compiled = OpenVino().compile(plain, context.example_inputs, "int8", context.calibration)
    written = compiled.save(tmp_path / "saved")
    files = sorted((tmp_path / "saved").iterdir())
    assert [file.name for file in files] == ["model.bin", "model.xml"]
    assert sum(file.stat().st_size for file in files) == compiled.bytes
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, numpy as np\nfrom nasbench_compression import get_backend\n"
        "found = get_backend('openvino').load(sys.argv[1])\nassert found.describe()['precision'] == 'int8'\n"
        "np.save(sys.argv[3], found(np.load(sys.argv[2])))"
    )
    paths = [str(tmp_path / "saved"), str(tmp_path / "images.npy"), str(tmp_path / "logits.npy")]
    subprocess.run([sys.executable, "-c", program, *paths], check=True, timeout=120)
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), compiled(images))
    written.with_suffix(".bin").unlink()
    with pytest.raises(UserError, match=r"no file .*model\.bin"):
        OpenVino().load(written)


@pytest.mark.only_where(len(os.sched_getaffinity(0)) > 1)  # with one core the runtime has one stream
def test_streams_compute_several_batches_at_once(plain, context) -> None:
    backend = OpenVino(threads=2, hint="throughput", streams=2)
    compiled = backend.compile(plain, context.example_inputs)
    assert compiled.describe()["streams"] == 2 and compiled.describe()["hint"] == "throughput"
    for count in (1, 4, 5, 8, 19):  # the artefact takes four
        images = context.calibration[:count]
        np.testing.assert_allclose(compiled(images.numpy()), logits(plain, images), atol=1e-4)


def test_usage_statistics_are_off_and_the_environment_is_given_back(plain, context, monkeypatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    OpenVino().compile(plain, context.example_inputs, "int8", context.calibration)
    assert "CI" not in os.environ
    import openvino_telemetry

    assert openvino_telemetry.Telemetry().consent is False


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UserError, match="hint"):
        get_backend("openvino", hint="fast")
    with pytest.raises(UserError, match="streams is 0"):
        get_backend("openvino", streams=0)


GONE = """
import signal

import torch
from torch import nn

from nasbench_compression import get_backend

network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()
images = torch.randn(8, 1, 8, 8)
made = [get_backend("openvino").compile(network, images[:1], each, images) for each in ("fp32", "int8", "fp32")]
while made:
    del made[0]
signal.signal(signal.SIGALRM, lambda *_: print("heard"))
signal.raise_signal(signal.SIGALRM)
"""


def test_signals_are_heard_when_the_artefacts_are_gone(tmp_path) -> None:
    """In a process of its own, which a signal would end if plugins left a freed stack behind."""
    ended = subprocess.run([sys.executable, "-c", GONE], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout.strip().splitlines()[-1:]) == (0, ["heard"]), ended.stderr
