"""ONNX Runtime, in float32 and in static int8, on the CPU or with the provider of another device."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from nasbench_compression.compilation.backend import (
    Backend,
    CompiledModel,
    Images,
    SingleFile,
    needs_calibration,
)
from nasbench_compression.compilation.onnx_export import export_onnx
from nasbench_compression.compilation.onnx_int8 import quantize_onnx
from nasbench_compression.compilation.onnx_weights import store_weights
from nasbench_compression.compilation.onnxruntime_profile import OnnxRuntimeProfiler
from nasbench_compression.compilation.signature import Array, Signature, signature_of
from nasbench_compression.quantization.modules import dequantize, is_quantized
from nasbench_registry import UserError, one_of

_FILE = "model.onnx"
_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_PRECISION_KEY, _SIGNATURE_KEY = "precision", "signature"  # of what the file says of itself
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu in the place of onnxruntime"),
    "tensorrt": ("TensorrtExecutionProvider", "onnxruntime-gpu in the place of onnxruntime, and tensorrt"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino in the place of onnxruntime"),
}


class OnnxRuntimeModel(SingleFile):
    """An ONNX file in a session of ONNX Runtime."""

    filename: ClassVar[str] = _FILE

    def __init__(
        self, artefact: bytes, precision: str, threads: int, graph_optimization: str, provider: str = "cpu"
    ) -> None:
        self.artefact = artefact
        self.precision = precision
        self.threads = threads
        self.graph_optimization = graph_optimization
        self.provider = provider
        self._session = self._open()
        self._input = self._session.get_inputs()[0].name
        signature_json = self._session.get_modelmeta().custom_metadata_map.get(_SIGNATURE_KEY)
        self.signature = Signature.from_json(None if signature_json is None else json.loads(signature_json))

    def _open(self, optimized: Path | None = None, profile: str | None = None) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = self.threads
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        level = _LEVELS[self.graph_optimization]
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.log_severity_level = 3  # it warns on standard error about what the user cannot change
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, profile
        # What the provider cannot run, the CPU does.
        providers = list(dict.fromkeys([_PROVIDERS[self.provider][0], "CPUExecutionProvider"]))
        session = onnxruntime.InferenceSession(self.artefact, options, providers=providers)
        if session.get_providers()[0] != providers[0]:
            raise RuntimeError(f"ONNX Runtime has provider {providers[0]} but could not start it on this machine")
        return session

    @property
    def batch(self) -> int | None:
        """See `CompiledModel`."""
        count = self._session.get_inputs()[0].shape[0]
        return count if isinstance(count, int) else None

    def _run(self, images: Array) -> list[Array]:
        outputs: list[Array] = self._session.run(None, {self._input: images})
        return outputs

    def profiler(self, images: Images) -> OnnxRuntimeProfiler:
        """See `CompiledModel`."""
        return OnnxRuntimeProfiler(self._open, self.artefact, images)

    def describe(self) -> dict[str, Any]:
        """See `CompiledModel`; counts the operators of the file and those left after the session's optimization."""
        import onnx
        import onnxruntime

        model = onnx.load_from_string(self.artefact)
        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder) / _FILE
            self._open(optimized)
            after = onnx.load(optimized)
        return {
            "backend": "onnxruntime",
            "version": onnxruntime.__version__,
            "precision": self.precision,
            "threads": self.threads,
            "graph_optimization": self.graph_optimization,
            "provider": self.provider,
            "opset": max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
            "operators": dict(sorted(Counter(node.op_type for node in model.graph.node).items())),
            "operators_optimized": dict(sorted(Counter(node.op_type for node in after.graph.node).items())),
        }


@dataclass(frozen=True, kw_only=True)
class OnnxRuntime(Backend):
    """ONNX Runtime, on the CPU unless `provider` says otherwise.

    Int8 is its own static quantization: Q/DQ nodes, one scale for each output channel of signed weights, unsigned
    inputs (signed ones are slower than float on x86), ranges from the extremes over the calibration images. A
    network from the step `quantize` keeps its int8 weights and the ranges of its layers' inputs; those of what the
    runtime rounds besides are read from the images. Dynamic layers become dynamic ones of the runtime, and layers of a
    partly quantized network stay float if they are; see `quantize_onnx`. Weights in int4, fp16 and bf16, or in int8
    without inputs, are stored so in the file and become float32 when it is opened; see `store_weights`.

    Attributes:
        threads: Number of threads that a call may use.
        graph_optimization: Level of the optimization of the graph: "disable", "basic", "extended" or "all".
        provider: Execution provider: "cpu", "cuda", "tensorrt" or "openvino", whichever the installed ONNX Runtime was
            built with. For "tensorrt", int8 inputs are signed and lie around zero, as it demands. Others than "cpu"
            have not been run by the tests of this project.
    """

    name: ClassVar[str] = "onnxruntime"
    summary: ClassVar[str] = "ONNX Runtime, CPU provider; int8 with Q/DQ nodes"
    source: ClassVar[str] = "https://onnxruntime.ai"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "int8")
    compile_s: ClassVar[float] = 1.0
    artefact: ClassVar[str] = _FILE
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime")
    extra: ClassVar[str] = "onnx"
    usage: ClassVar[str] = """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = {threads}
        session = onnxruntime.InferenceSession("{file}", options, providers=["CPUExecutionProvider"])
        logits = session.run(None, {{session.get_inputs()[0].name: images}})[0]
    """

    graph_optimization: str = "all"
    provider: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("graph_optimization", self.graph_optimization, _LEVELS)
        one_of("provider", self.provider, _PROVIDERS)

    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        self._check_provider()
        images = needs_calibration(self.name, calibration) if precision == "int8" else None
        artefact = export_onnx(dequantize(model), example_inputs)
        if images is not None:
            artefact = quantize_onnx(artefact, images.numpy(), model, signed=self.provider == "tensorrt")
        if images is None or is_quantized(model):
            artefact = store_weights(artefact, model)
        artefact = _tagged(artefact, precision, signature_of(model))
        return OnnxRuntimeModel(artefact, precision, self.threads, self.graph_optimization, self.provider)

    def _load(self, file: Path) -> CompiledModel:
        import onnx

        self._check_provider()
        artefact = file.read_bytes()
        properties = {entry.key: entry.value for entry in onnx.load_from_string(artefact).metadata_props}
        precision = properties.get(_PRECISION_KEY, "fp32")
        return OnnxRuntimeModel(artefact, precision, self.threads, self.graph_optimization, self.provider)

    def _check_provider(self) -> None:
        """Raise UserError if the installed ONNX Runtime was built without the provider."""
        import onnxruntime

        provider_name, package = _PROVIDERS[self.provider]
        if provider_name not in onnxruntime.get_available_providers():
            usable = [
                name
                for name, (known_name, _) in _PROVIDERS.items()
                if known_name in onnxruntime.get_available_providers()
            ]
            raise UserError(
                f"provider {self.provider!r} of backend {self.name!r} is not in the ONNX Runtime installed here, which "
                f"has {', '.join(usable)}; install {package}."
            )


def _tagged(artefact: bytes, precision: str, signature: Signature) -> bytes:
    """Write the precision and the signature into the file, so that they are known after loading."""
    import onnx

    model = onnx.load_from_string(artefact)
    onnx.helper.set_model_props(model, {_PRECISION_KEY: precision, _SIGNATURE_KEY: json.dumps(signature.to_json())})
    return bytes(model.SerializeToString())
