"""What every backend keeps, and what each one's int8 is worth."""

import copy
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from bounds import check_below
from tests_support import check_agreement
from torch import nn

from nasbench_compression import BACKENDS, Backend, CompiledModel, get_backend, get_step
from nasbench_compression.compilation.eager import Eager
from nasbench_compression.compilation.onnx_export import export_onnx
from nasbench_compression.compilation.onnxruntime import OnnxRuntime
from nasbench_registry import UserError

COSTLY = frozenset({"torch_compile", "aot_inductor", "executorch", "litert", "tvm"})
"""Backends that compile a small network for seconds: fewer networks in the tests that compile many."""


def here(name: str):
    """A parameter that is left out where the backend lacks hardware, or an environment of its own."""
    missing = BACKENDS[name].why_unavailable()
    return pytest.param(name, marks=pytest.mark.only_where(missing is None))


@pytest.fixture(params=[here(name) for name in sorted(BACKENDS)])
def backend(request) -> Backend:
    return get_backend(request.param)


@pytest.fixture(
    params=[here(name) for name, backend_class in sorted(BACKENDS.items()) if "int8" in backend_class.precisions]
)
def int8_backend(request) -> Backend:
    return get_backend(request.param)


@dataclass(frozen=True)
class Compilation:
    """A network that was being trained, its state before it was compiled, and what was made of it."""

    model: nn.Module
    state: dict[str, torch.Tensor]
    compiled: CompiledModel


@pytest.fixture(scope="session")
def _compile_once(_trained, context) -> Callable[[Backend, str], Compilation]:
    compilations: dict[tuple[str, str], Compilation] = {}

    def get(backend: Backend, network: str) -> Compilation:
        key = (backend.name, network)
        if key not in compilations:
            model = copy.deepcopy(_trained(network)).train()
            state = copy.deepcopy(model.state_dict())
            compilations[key] = Compilation(model, state, backend.compile(model, context.example_inputs))
        return compilations[key]

    return get


@pytest.fixture
def compiled(_compile_once, backend) -> CompiledModel:
    """The plain network in float32, compiled once by each backend; shared, so not to be changed."""
    return _compile_once(backend, "plain").compiled


def reference(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return copy.deepcopy(model).eval()(images).numpy()


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_names_and_lines_for_listings(name) -> None:
    backend_class = BACKENDS[name]
    assert backend_class.name == name and backend_class.summary and backend_class.source
    assert "fp32" in backend_class.precisions


def test_float_agrees_with_torch(_compile_once, backend, trained, network_name, digits) -> None:
    compiled = _compile_once(backend, network_name).compiled
    for count in (1, 7):
        images = digits.val_images[:count]
        logits = compiled(images.numpy())
        assert logits.dtype == np.float32 and logits.shape == (count, 10)
        np.testing.assert_allclose(logits, reference(trained, images), atol=1e-4, rtol=1e-4)


def test_model_is_left_as_it_was(_compile_once, backend, digits) -> None:
    compilation = _compile_once(backend, "plain")
    model, state, compiled = compilation.model, compilation.state, compilation.compiled
    before = compiled(digits.val_images[:3].numpy())
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        model.classifier.weight.zero_()  # no other test looks at it
    np.testing.assert_array_equal(compiled(digits.val_images[:3].numpy()), before)


def test_compilation_and_calls_are_silent(backend, plain, digits, capfd, recwarn) -> None:
    # A costly one shows in its own tests that other precisions are silent, too.
    for precision in backend.precisions if backend.name not in COSTLY else ("fp32",):
        compiled = backend.compile(plain, digits.train_images[:4], precision, digits.train_images[:64])
        compiled(digits.val_images[:2].numpy())
        compiled.describe()
    written = capfd.readouterr()
    assert written.out == "" and written.err == ""
    assert not [warning for warning in recwarn if "onnx" in str(warning.message).lower()]


@pytest.mark.parametrize("already", [False, True])
def test_int8_agrees_on_images_that_it_was_not_calibrated_on(int8_backend, trained, context, digits, already) -> None:
    model = get_step("quantize").apply(trained, context)[0] if already else trained
    compiled = int8_backend.compile(model, context.example_inputs, "int8", context.calibration)
    check_agreement(compiled, model, digits.val_images, context.evaluate)
    assert compiled.describe()["precision"] == "int8"


def test_int8_file_is_much_smaller(int8_backend, context) -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(
        nn.Conv2d(1, 96, 3), nn.ReLU(), nn.Conv2d(96, 96, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1536, 10)
    )
    sizes = {
        precision: int8_backend.compile(wide, context.example_inputs, precision, context.calibration).bytes
        for precision in ("fp32", "int8")
    }
    assert sizes["fp32"] > 4 * 96 * 96 * 9
    assert sizes["int8"] < 0.3 * sizes["fp32"]


def test_int8_needs_images(int8_backend, plain, context) -> None:
    with pytest.raises(UserError, match="needs calibration images"):
        int8_backend.compile(plain, context.example_inputs, "int8")


def test_float_of_a_quantized_network_keeps_its_weights(backend, plain, context) -> None:
    quantized, _ = get_step("quantize").apply(plain, context)
    compiled = backend.compile(quantized, context.example_inputs, "fp32")
    changed = abs(context.evaluate(compiled) - context.evaluate(plain))
    check_below("points that the grid changes", changed, mean=0.045, sd=0.11, n=27, most=1)
    assert compiled.describe()["precision"] == "fp32"


def test_saved_size_is_the_size_told(compiled, tmp_path) -> None:
    written = compiled.save(tmp_path / "deep" / "folder")
    assert written.parent == tmp_path / "deep" / "folder"
    assert sum(file.stat().st_size for file in written.parent.iterdir()) == compiled.bytes
    named = tmp_path / f"mine{written.suffix}"
    assert compiled.save(named) == named and named.is_file()


def test_description_is_json(backend, compiled) -> None:
    described = compiled.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["backend"] == backend.name and described["threads"] == 1 and described["version"]
    assert sum(described["operators"].values()) >= 5


def test_wrong_use_is_refused(backend, compiled, plain, context) -> None:
    with pytest.raises(UserError, match="precision"):
        backend.compile(plain, context.example_inputs, "int3")
    with pytest.raises(UserError, match="images have shape"):
        compiled(np.zeros((1, 8, 8), np.float32))
    with pytest.raises(UserError, match="threads is 0"):
        get_backend(backend.name, threads=0)
    with pytest.raises(UserError, match="Did you mean 'threads'"):
        get_backend(backend.name, thread=1)


def test_threads_are_given_back(plain, context) -> None:
    before = torch.get_num_threads()
    compiled = get_backend("eager", threads=before + 1).compile(plain, context.example_inputs)
    thread_counts = []
    compiled.model.register_forward_hook(lambda *_: thread_counts.append(torch.get_num_threads()))
    compiled(context.example_inputs.numpy())
    assert thread_counts == [before + 1] and torch.get_num_threads() == before


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_onnx_file_loads_again(plain, context, tmp_path, precision) -> None:
    compiled = OnnxRuntime().compile(plain, context.example_inputs, precision, context.calibration)
    file = compiled.save(tmp_path)
    for path in (tmp_path, file, str(tmp_path)):
        loaded = get_backend("onnxruntime", threads=2).load(path)
        assert loaded.describe()["precision"] == precision and loaded.describe()["threads"] == 2
        images = context.calibration[:5].numpy()
        np.testing.assert_allclose(loaded(images), compiled(images), atol=1e-5)
    with pytest.raises(UserError, match="there is no file"):
        OnnxRuntime().load(tmp_path / "elsewhere")


def test_eager_does_not_load(plain, context, tmp_path) -> None:
    Eager().compile(plain, context.example_inputs).save(tmp_path)
    with pytest.raises(UserError, match="weights only"):
        Eager().load(tmp_path)


def test_int8_runs_on_integer_kernels(plain, context) -> None:
    described = OnnxRuntime().compile(plain, context.example_inputs, "int8", context.calibration).describe()
    assert described["operators_optimized"]["QLinearConv"] == 3
    plainly = OnnxRuntime(graph_optimization="disable").compile(plain, context.example_inputs).describe()
    assert plainly["operators_optimized"]["Conv"] == 3 and plainly["operators_optimized"]["Relu"] == 4


class FrozenBatch(nn.Module):
    """Python computes with the number of images, which a trace takes for a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.flatten(1)) / int(x.shape[0])


@pytest.mark.filterwarnings("ignore")
def test_a_wrong_trace_is_not_taken(context) -> None:
    torch.manual_seed(0)
    model = FrozenBatch()
    compiled = OnnxRuntime().compile(model, context.example_inputs)
    for count in (1, 5):
        images = context.calibration[:count]
        np.testing.assert_allclose(compiled(images.numpy()), reference(model, images), atol=1e-5)


class Unexportable(nn.Module):
    def forward(self, x):
        return torch.from_numpy(np.sort(x.flatten(1).numpy(), axis=1))[:, : len(x)]


def test_what_no_exporter_can_do_is_an_error_that_names_both(context) -> None:
    with pytest.raises(RuntimeError, match=r"Unexportable cannot be exported.*torchscript: .*dynamo: "):
        export_onnx(Unexportable(), context.example_inputs)


def test_missing_package_is_named_with_the_way_to_get_it(plain, context, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    reason = OnnxRuntime.why_unavailable()
    assert reason is not None and "onnxruntime, which" in reason and "nasbench-framework[onnx]" in reason
    with pytest.raises(UserError, match="pip install"):
        get_step("compile").apply(plain, context)


def test_a_provider_that_is_not_there_is_named_with_the_way_to_get_it(plain, context, tmp_path) -> None:
    compiled = OnnxRuntime().compile(plain, context.example_inputs)
    assert compiled.describe()["provider"] == "cpu"
    compiled.save(tmp_path)
    for provider, package in (
        ("cuda", "onnxruntime-gpu"),
        ("tensorrt", "tensorrt"),
        ("openvino", "onnxruntime-openvino"),
    ):
        backend = get_backend("onnxruntime", provider=provider)
        for attempt in (lambda: backend.compile(plain, context.example_inputs), lambda: backend.load(tmp_path)):  # noqa: B023
            with pytest.raises(UserError, match=f"provider '{provider}' .* has cpu; install .*{package}"):
                attempt()
    with pytest.raises(UserError, match="provider"):
        get_backend("onnxruntime", provider="gpu")
