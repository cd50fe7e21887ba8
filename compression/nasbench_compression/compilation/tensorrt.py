"""TensorRT, on a GPU of NVIDIA. Written for TensorRT 11 by its documentation; this project has never run it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench_compression.compilation.backend import (
    Backend,
    CompiledModel,
    Images,
    SingleFile,
    needs_calibration,
)
from nasbench_compression.compilation.onnx_export import INPUT, export_onnx
from nasbench_compression.compilation.onnx_int8 import quantize_onnx
from nasbench_compression.compilation.signature import Array, Signature, arrays, signature_of
from nasbench_compression.quantization.dynamic import DynamicLinear
from nasbench_compression.quantization.modules import dequantize
from nasbench_registry import UserError

_FILE = "model.engine"


class TensorRtModel(SingleFile):
    """An engine of TensorRT, which reads and writes torch tensors on the GPU."""

    filename: ClassVar[str] = _FILE
    why_not_profiled: ClassVar[str] = "the profiler of TensorRT is not read here"

    def __init__(self, engine: bytes, threads: int, operators: Mapping[str, int] | None = None) -> None:
        import tensorrt

        self.artefact = engine
        self.threads = threads
        self._operators = operators
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))  # must outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise UserError(
                "TensorRT does not read this engine: one is tied to the version and the GPU that it was built for; "
                "compile the network again here."
            )
        self._context = self._engine.create_execution_context()
        shape = tuple(self._engine.get_tensor_profile_shape(INPUT, 0)[2])  # the largest, and the only one
        self._context.set_input_shape(INPUT, shape)
        facts = json.loads(self._engine.name)
        self.precision: str = facts["precision"]
        self.signature = Signature.from_json(facts["signature"])
        self._images = self._buffer(INPUT, shape)
        # An engine lists its tensors in an order of its own.
        self._results = [
            self._buffer(name, tuple(self._context.get_tensor_shape(name))) for name in self.signature.labels
        ]
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types there

    def _buffer(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Memory of the GPU for an input or output of the engine."""
        kind = self._engine.get_tensor_dtype(name).name.lower()
        dtype = {"float": torch.float32, "half": torch.float16, "bf16": torch.bfloat16}.get(kind)
        buffer = torch.empty(shape, device="cuda", dtype=dtype or getattr(torch, kind))  # bool, int8, int32, int64
        self._context.set_tensor_address(name, buffer.data_ptr())
        return buffer

    @property
    def batch(self) -> int:
        """See `CompiledModel`."""
        return len(self._images)

    def _run(self, images: Array) -> list[Array]:
        """All outputs; copies to the GPU and back are part of it."""
        with torch.cuda.stream(self._stream):
            self._images.copy_(torch.from_numpy(images))
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise RuntimeError("TensorRT did not run the engine")
            return arrays(self._results)  # waits for the stream

    def describe(self) -> dict[str, Any]:
        """See `CompiledModel`; an engine that was loaded does not know the `operators` that it was made from."""
        import tensorrt

        inspector = self._engine.create_engine_inspector()
        information = json.loads(inspector.get_engine_information(tensorrt.LayerInformationFormat.JSON))
        kinds = Counter(layer["LayerType"] if isinstance(layer, dict) else "layer" for layer in information["Layers"])
        return {
            "backend": "tensorrt",
            "version": tensorrt.__version__,
            "precision": self.precision,
            "threads": self.threads,
            "gpu": torch.cuda.get_device_name(),
            "batch": len(self._images),
            **({} if self._operators is None else {"operators": dict(self._operators)}),
            "operators_optimized": dict(sorted(kinds.items())),
        }


@dataclass(frozen=True, kw_only=True)
class TensorRt(Backend):
    """TensorRT 11 on the GPU, from an ONNX file. It has never been run by this project: there was no GPU.

    Networks are strongly typed, so the file says what is computed in which type: "fp32" is float32 without the shorter
    TF32 products, "int8" has Q/DQ nodes whose inputs are signed and lie around zero, as TensorRT demands: a network
    from the step `quantize` keeps its int8 weights, but ranges become as wide below zero as above. An engine runs on
    the kind of GPU and the version that built it, and takes as many images as `example_inputs` has.

    Attributes:
        threads: Number of threads, which only the description repeats; the GPU does the work.
    """

    name: ClassVar[str] = "tensorrt"
    summary: ClassVar[str] = "TensorRT on an NVIDIA GPU; int8 with Q/DQ nodes; never run by this project"
    source: ClassVar[str] = "https://docs.nvidia.com/deeplearning/tensorrt"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "int8")
    compile_s: ClassVar[float] = 30.0
    artefact: ClassVar[str] = _FILE
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime", "tensorrt")
    extra: ClassVar[str] = "tensorrt"
    also_needs: ClassVar[str] = "nasbench_compression.compilation.availability:no_gpu"

    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        import onnx

        images = needs_calibration(self.name, calibration).numpy() if precision == "int8" else None
        artefact = onnx_for_tensorrt(model, example_inputs, images)
        engine = _build(artefact, tuple(example_inputs.shape), precision, signature_of(model))
        operators = Counter(node.op_type for node in onnx.load_from_string(artefact).graph.node)
        return TensorRtModel(engine, self.threads, dict(sorted(operators.items())))

    def _load(self, file: Path) -> CompiledModel:
        return TensorRtModel(file.read_bytes(), self.threads)


def onnx_for_tensorrt(model: nn.Module, example_inputs: Tensor, images: Images | None) -> bytes:
    """The ONNX file that TensorRT is given.

    Args:
        model: Float network, or one from the step `quantize`.
        example_inputs: Images (n, c, h, w), float32.
        images: Images (m, c, h, w), from which int8 reads its ranges; None makes a float file.

    Raises:
        UserError: Layers of the network find their range while they run.
    """
    if images is not None and any(isinstance(module, DynamicLinear) for module in model.modules()):
        raise UserError(
            "TensorRT has no layers that find the range of their inputs while they run; quantize the network with "
            "method static, or compile it in fp32."
        )
    artefact = export_onnx(dequantize(model), example_inputs)
    return artefact if images is None else quantize_onnx(artefact, images, model, signed=True)


def _build(artefact: bytes, shape: tuple[int, ...], precision: str, signature: Signature) -> bytes:
    """The engine for images of one shape."""
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network()  # strongly typed: from version 11 on there are no others
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(artefact):
        problems = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise RuntimeError(f"TensorRT does not read the exported network: {problems}")
    # The one thing of ours that an engine keeps.
    network.name = json.dumps({"precision": precision, "signature": signature.to_json()})
    config = builder.create_builder_config()
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED
    if hasattr(tensorrt.BuilderFlag, "TF32"):
        config.clear_flag(tensorrt.BuilderFlag.TF32)  # products of 10 bits are not float32
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, shape, shape, shape)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RuntimeError("TensorRT did not build an engine; its log, on standard error, says why")
    return bytes(engine)
