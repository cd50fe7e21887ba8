"""OpenVINO: the CPU plugin, in float32, bfloat16 and int8."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from nasbench_compression.checks import check_number
from nasbench_compression.compilation.backend import (
    Backend,
    CompiledModel,
    Images,
    artefact_path,
    needs_calibration,
)
from nasbench_compression.compilation.onnx_export import export_onnx, quiet
from nasbench_compression.compilation.onnx_int8 import quantize_onnx
from nasbench_compression.compilation.onnxruntime import OnnxRuntime
from nasbench_compression.compilation.openvino_profile import OpenVinoProfiler
from nasbench_compression.compilation.signature import Array, Signature, signature_of
from nasbench_compression.copying import copy_network
from nasbench_compression.quantization.modules import dequantize, is_quantized
from nasbench_registry import UserError, one_of

_FILE = "model.xml"
_HINTS = {"latency": "LATENCY", "throughput": "THROUGHPUT"}
_PRECISION_PATH, _SIGNATURE_PATH = ["nasbench", "precision"], ["nasbench", "signature"]  # what the file says of itself
_HALF_RANGE_PATH = ["nasbench", "half_range_weights"]
_CALIBRATION_IMAGES = 300  # as many as nncf takes by default


def _computes_bf16() -> bool:
    """Whether this processor multiplies bfloat16 numbers; where it does not, the plugin refuses or emulates it."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


class OpenVinoModel(CompiledModel):
    """A network of OpenVINO, compiled for the CPU."""

    def __init__(self, xml: bytes, weights: bytes, threads: int, hint: str, streams: int | None) -> None:
        self.xml, self.weights = xml, weights
        self.threads, self.hint = threads, hint
        core = _core()
        self._model = core.read_model(xml, weights)
        self.precision = str(self._model.get_rt_info(_PRECISION_PATH).astype(str))
        if self._model.has_rt_info(_SIGNATURE_PATH):
            self.signature = Signature.from_json(json.loads(self._model.get_rt_info(_SIGNATURE_PATH).astype(str)))
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": _HINTS[hint],
            # Without it, float32 is computed in bfloat16 on processors that can.
            "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bf16" else "f32",
            # Pinned, the threads of all processes of this machine would share its first cores.
            "ENABLE_CPU_PINNING": False,
        }
        if streams is not None:
            settings["NUM_STREAMS"] = streams
        self._settings = settings
        self._compiled = core.compile_model(self._model, "CPU", settings)
        self.streams = int(self._compiled.get_property("NUM_STREAMS"))
        self._requests = [self._compiled.create_infer_request() for _ in range(max(1, self.streams))]
        self._batch = int(self._model.input(0).shape[0])

    @property
    def batch(self) -> int:
        """See `CompiledModel`."""
        return self._batch

    def _outputs(self, images: Array) -> list[Array]:
        """All outputs; images beyond the artefact's batch are spread over the streams."""
        if len(self._requests) == 1 or len(images) <= self._batch or self.signature.whole:
            return self.signature.in_batches(self._run, images, self._batch)
        return self.signature.in_batches(self._run_together, images, self._batch * len(self._requests))

    def _run(self, images: Array) -> list[Array]:
        outputs = self._requests[0].infer({0: images}, share_inputs=True)
        return [outputs[number] for number in range(len(self._model.outputs))]

    def _run_together(self, images: Array) -> list[Array]:
        pieces = np.split(images, len(self._requests))
        for request, piece in zip(self._requests, pieces, strict=True):
            request.start_async({0: piece}, share_inputs=True)
        for request in self._requests:
            request.wait()
        return [
            np.array(self._requests[0].get_output_tensor(number).data)
            if axis is None
            else np.concatenate([request.get_output_tensor(number).data for request in self._requests], axis)
            for number, axis in enumerate(self.signature.axes)
        ]

    def profiler(self, images: Images) -> OpenVinoProfiler:
        """See `CompiledModel`."""
        return OpenVinoProfiler(
            _core().compile_model(self._model, "CPU", {**self._settings, "PERF_COUNT": True}), images
        )

    def save(self, path: Path | str) -> Path:
        """See `CompiledModel`; the weights lie beside the file, in one of the same name that ends in .bin."""
        file = artefact_path(path, _FILE)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self.xml)
        file.with_suffix(".bin").write_bytes(self.weights)
        return file

    @property
    def bytes(self) -> int:
        """See `CompiledModel`; of both files."""
        return len(self.xml) + len(self.weights)

    def describe(self) -> dict[str, Any]:
        """See `CompiledModel`; `computed_in` counts what runs by the type of its numbers.

        `half_range_weights` says whether all weights in int8 use half of their range, see `OpenVino`.
        """
        import openvino

        network_kinds = Counter(node.get_type_name() for node in self._model.get_ops())
        run = [node.get_rt_info() for node in self._compiled.get_runtime_model().get_ops()]
        kinds = Counter(info["layerType"].astype(str) for info in run)
        # The name of a kernel, such as brgconv_avx512_f32, ends with what it computes in.
        kernels = [info["primitiveType"].astype(str) for info in run if info["layerType"].astype(str) not in _NO_WORK]
        types = Counter(kernel.rpartition("_")[2].lower() for kernel in kernels)
        return {
            "backend": "openvino",
            "version": openvino.__version__,
            "precision": self.precision,
            "threads": self.threads,
            "hint": self.hint,
            "streams": self.streams,
            "batch": self._batch,
            "operators": {kind: count for kind, count in sorted(network_kinds.items()) if kind not in _NO_WORK},
            "operators_optimized": {kind: count for kind, count in sorted(kinds.items()) if kind not in _NO_WORK},
            "computed_in": dict(sorted(types.items())),
            "half_range_weights": self._model.has_rt_info(_HALF_RANGE_PATH),
        }


_NO_WORK = frozenset({"Constant", "Const", "Parameter", "Input", "Result", "Output"})


@dataclass(frozen=True, kw_only=True)
class OpenVino(Backend):
    """OpenVINO on the CPU.

    "fp32" stores and computes float32. "fp16" stores the weights in half the bytes and computes float32: it saves
    space, no time. "bf16", offered where the processor has such instructions, stores float32 and computes bfloat16,
    with sums in float32. "int8" stores int8 weights and computes layers in int8, what has no integer kernel in
    float32. A plain network is quantized by nncf (mixed preset: weights symmetric, a scale for each output channel;
    inputs with a zero point and the extremes over the calibration images), a network from the step `quantize` as ONNX
    Runtime would be given it, with the weights and ranges that it has; see `quantize_onnx`.

    Without VNNI, a processor adds two products of 8 bits in 16 bits, which cuts off sums above 32,767. There, weights
    in int8 use half of the range, from -64 to 64: rounding is twice as coarse, but nothing is cut off; see
    `describe()["half_range_weights"]`. An artefact that was made on a processor with VNNI has the full range, and may
    be wrong on one without.

    The artefact takes as many images as `example_inputs` has; others are filled up or split. Nothing is sent to the
    usage statistics of OpenVINO and nncf.

    Attributes:
        threads: Number of threads that a call may use.
        hint: Performance hint: "latency" or "throughput", which chooses the number of streams.
        streams: Number of batches that are computed at once when a call brings several; None leaves it to the hint.
    """

    name: ClassVar[str] = "openvino"
    summary: ClassVar[str] = "OpenVINO, CPU plugin; int8 with nncf"
    source: ClassVar[str] = "https://docs.openvino.ai"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", *(("bf16",) if _computes_bf16() else ()), "int8")
    compile_s: ClassVar[float] = 1.0
    artefact: ClassVar[str] = _FILE
    packages: ClassVar[tuple[str, ...]] = ("openvino", "nncf")
    extra: ClassVar[str] = "openvino"
    usage: ClassVar[str] = """
        import numpy as np
        import openvino

        settings = {{"INFERENCE_NUM_THREADS": {threads}, "INFERENCE_PRECISION_HINT": "{arithmetic}"}}
        model = openvino.Core().compile_model("{file}", "CPU", settings)
        batch = model.input(0).shape[0]  # the file takes as many images at a time
        logits = np.concatenate([model(images[at : at + batch])[0] for at in range(0, len(images), batch)])
    """

    hint: str = "latency"
    streams: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("hint", self.hint, _HINTS)
        if self.streams is not None:
            check_number("streams", self.streams, at_least=1, integer=True)

    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        images = needs_calibration(self.name, calibration).numpy() if precision == "int8" else None
        half_range = images is not None and cuts_off_sums()
        if images is not None and is_quantized(model):
            converted = _with_its_own_grid(model, example_inputs, images, half_range)
        else:
            network = copy_network(dequantize(model)).cpu().eval().requires_grad_(False)
            converted = _converted(network, example_inputs)
            if images is not None:
                converted = _quantized(converted, images, len(example_inputs), half_range)
        converted.set_rt_info(precision, _PRECISION_PATH)
        if half_range:
            converted.set_rt_info("all", _HALF_RANGE_PATH)
        converted.set_rt_info(json.dumps(signature_of(model).to_json()), _SIGNATURE_PATH)
        xml, weights = _files(converted, half=precision == "fp16")
        return OpenVinoModel(xml, weights, self.threads, self.hint, self.streams)

    def _load(self, file: Path) -> CompiledModel:
        weights = file.with_suffix(".bin")
        if not weights.is_file():
            raise UserError(f"there is no file {weights}; {file.name} needs it beside it, as it was saved.")
        return OpenVinoModel(file.read_bytes(), weights.read_bytes(), self.threads, self.hint, self.streams)


@functools.cache
def _core() -> Any:
    """The one core of this process, made before any of nncf, with its CPU plugin.

    A plugin gives the thread a stack for signals and puts that of the plugin before it back when it goes. If that one
    went first, the next signal, a Ctrl-C say, would end the process. So the first plugin stays.
    """
    import openvino

    core = openvino.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
    return core


@functools.cache
def cuts_off_sums() -> bool:
    """Whether int8 kernels of this processor cut off sums of two products at 16 bits, as they do without VNNI.

    One convolution with the largest inputs and weights tells it, computed by OpenVINO with the kernels that it chooses.
    """
    import openvino
    from openvino import opset13 as operators

    channels, largest_input, largest_weight = 16, 255, 127
    images = operators.parameter([1, channels, 4, 4], np.float32)
    ends = [np.float32(end) for end in (0, largest_input)]
    inputs = operators.fake_quantize(images, *ends, *ends, largest_input + 1)
    integers = operators.constant(np.full((channels, channels, 1, 1), largest_weight, np.int8))
    scales = operators.constant(np.ones((channels, 1, 1, 1), np.float32))
    weights = operators.multiply(operators.convert(integers, np.float32), scales)
    network = openvino.Model([operators.convolution(inputs, weights, [1, 1], [0, 0], [0, 0], [1, 1])], [images])
    compiled = _core().compile_model(network, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    sums = compiled(np.full((1, channels, 4, 4), largest_input, np.float32))[0]
    return bool(sums.min() < 0.99 * channels * largest_input * largest_weight)


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """No progress bars, warnings, log lines or usage statistics."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"  # the one switch of openvino_telemetry that needs no file in the home folder
    try:
        with quiet(logging.CRITICAL), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


def _converted(network: nn.Module, example: Tensor) -> Any:
    with _silently():
        import openvino

        return openvino.convert_model(network, example_input=example, input=list(example.shape))


def _quantized(converted: Any, images: Array, batch: int, half_range: bool) -> Any:
    with _silently():
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        _core()
        images = images[:_CALIBRATION_IMAGES]
        rounds = -(-len(images) // batch)
        filled = images[np.arange(rounds * batch) % len(images)]  # the last batch takes some from the first
        data = nncf.Dataset(np.split(filled, rounds))
        # By default a range is the mean of the extremes of each image, which cuts off much where a tensor is small.
        parameters = nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            overflow_fix=nncf.OverflowFix.ENABLE if half_range else None,
        )
        return nncf.quantize(
            converted,
            data,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=rounds,
            advanced_parameters=parameters,
        )


def _with_its_own_grid(model: nn.Module, example: Tensor, images: Array, half_range: bool) -> Any:
    missing = OnnxRuntime.why_unavailable()
    if missing:
        raise UserError(f"a quantized network reaches OpenVINO as an ONNX file, but {missing}")
    artefact = quantize_onnx(export_onnx(dequantize(model), example), images, model, half_range=half_range)
    with _silently():
        converted = _core().read_model(artefact)
        converted.reshape(list(example.shape))
    return converted


def _files(converted: Any, half: bool) -> tuple[bytes, bytes]:
    """What `save_model` writes: the graph and the weights."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _FILE
        openvino.save_model(converted, file, compress_to_fp16=half)
        return file.read_bytes(), file.with_suffix(".bin").read_bytes()
