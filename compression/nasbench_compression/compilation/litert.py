"""LiteRT, which runs TFLite files: float32, weights in float16, and static int8."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from nasbench_compression.compilation import litert_convert
from nasbench_compression.compilation.availability import converter, missing_packages
from nasbench_compression.compilation.backend import (
    Backend,
    CompiledModel,
    Images,
    SingleFile,
    needs_calibration,
)
from nasbench_compression.compilation.child import ChildError, run_child
from nasbench_compression.compilation.descriptors import descriptors_closed
from nasbench_compression.compilation.exported import export, operators, silence
from nasbench_compression.compilation.signature import Array, Signature, signature_of
from nasbench_compression.copying import copy_network
from nasbench_compression.quantization.dynamic import DynamicLinear
from nasbench_compression.quantization.modules import QuantizedConv2d, QuantizedLinear, dequantize, is_quantized
from nasbench_registry import UserError, WorkFailed

_FILE = "model.tflite"
_TIMEOUT_S = 900.0
_CALIBRATION_IMAGES = 256


class LiteRtModel(SingleFile):
    """A TFLite file in an interpreter of LiteRT, with the XNNPACK delegate."""

    filename: ClassVar[str] = _FILE
    why_not_profiled: ClassVar[str] = (
        "the profiler of LiteRT is a program of its own, benchmark_model, and no part of the Python package"
    )

    def __init__(self, artefact: bytes, threads: int) -> None:
        self.artefact = artefact
        self.threads = threads
        with descriptors_closed():  # it says there that it made a delegate, and has no switch for it
            from ai_edge_litert.interpreter import Interpreter

            self._interpreter = Interpreter(model_content=artefact, num_threads=threads)
            self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._output_details = self._interpreter.get_output_details()
        self.signature = Signature.from_json(_note(self._parsed()).get("signature"))

    @property
    def batch(self) -> int:
        """See `CompiledModel`."""
        return int(self._input["shape"][0])

    def _run(self, images: Array) -> list[Array]:
        """All outputs; int8 inputs and outputs of a file are converted here."""
        self._interpreter.set_tensor(self._input["index"], _rounded(images, self._input))
        self._interpreter.invoke()
        outputs = ((self._interpreter.get_tensor(details["index"]), details) for details in self._output_details)
        return [_as_float(output, details) for output, details in outputs]

    def _parsed(self) -> Any:
        from ai_edge_litert import schema_py_generated as schema

        return schema.ModelT.InitFromObj(schema.Model.GetRootAs(self.artefact, 0))

    def describe(self) -> dict[str, Any]:
        """See `CompiledModel`; `operators` are those of the exported network, `operators_optimized` of the file.

        A file that another program made has the second only.
        """
        from importlib.metadata import version

        from ai_edge_litert import schema_py_generated as schema

        model = self._parsed()
        note = _note(model)
        names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
        kinds = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
        counts = Counter(kinds[op.opcodeIndex] for graph in model.subgraphs for op in graph.operators)
        return {
            "backend": "litert",
            "version": version("ai-edge-litert"),
            "precision": note.get("precision") or _precision(model, schema.TensorType),
            "threads": self.threads,
            "batch": self.batch,
            **({"operators": note["operators"]} if "operators" in note else {}),
            "operators_optimized": dict(sorted(counts.items())),
        }


@dataclass(frozen=True, kw_only=True)
class LiteRt(Backend):
    """LiteRT, formerly TensorFlow Lite, on the CPU, where XNNPACK runs what it can.

    "fp32" stores and computes float32. "fp16" stores the weights of convolutions and linear layers in half the bytes
    and computes float32: it saves space, no time. "int8" stores int8 weights, symmetric, with a scale for each output
    channel, and computes in int8, inputs and outputs with a zero point and the extremes over the calibration images. A
    network from the step `quantize` keeps its int8 weights, and the ranges of its layers' inputs where the file has
    such a tensor; its float layers stay float, its dynamic ones are dynamic.

    Running a file needs the runtime alone. Making one needs packages that clash with those of this project, in an
    environment of their own: `make litert` makes it, and the variable NASBENCH_LITERT_PYTHON names its interpreter,
    unless it is .venv-litert/bin/python below the working directory. The artefact takes as many images as
    `example_inputs` has; others are filled up or split.

    Attributes:
        threads: Number of threads that a call may use.
        float_ends: Whether an int8 file takes and gives float32, as programs like it; otherwise int8, as accelerators
            want it, which `CompiledModel` converts in each call.
    """

    name: ClassVar[str] = "litert"
    summary: ClassVar[str] = "LiteRT (TensorFlow Lite) with XNNPACK; int8 with ai-edge-quantizer"
    source: ClassVar[str] = "https://ai.google.dev/edge/litert"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "int8")
    compile_s: ClassVar[float] = 10.0
    artefact: ClassVar[str] = _FILE
    packages: ClassVar[tuple[str, ...]] = ("ai_edge_litert",)
    extra: ClassVar[str] = "litert"
    also_needs: ClassVar[str] = "nasbench_compression.compilation.availability:no_converter"
    usage: ClassVar[str] = """
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter("{file}", num_threads={threads})
        interpreter.allocate_tensors()
        (input_details,), (output_details,) = interpreter.get_input_details(), interpreter.get_output_details()
        batch, logits = input_details["shape"][0], []
        for start in range(0, len(images), batch):  # the file takes as many images at a time
            interpreter.set_tensor(input_details["index"], images[start : start + batch])
            interpreter.invoke()
            logits.append(interpreter.get_tensor(output_details["index"]))
        logits = np.concatenate(logits)
    """

    float_ends: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.float_ends, bool):
            raise UserError(f"float_ends is {self.float_ends!r}; it must be true or false.")

    @classmethod
    def why_not_loadable(cls) -> str | None:
        """The runtime alone."""
        return missing_packages(cls.name, cls.packages, cls.extra)

    def _compile(
        self, model: nn.Module, example_inputs: Tensor, precision: str, calibration: Tensor | None
    ) -> CompiledModel:
        images = needs_calibration(self.name, calibration).numpy() if precision == "int8" else None
        network = copy_network(dequantize(model)).cpu().eval().requires_grad_(False)
        program = export(network, example_inputs)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with silence():
                torch.export.save(program, folder / "network.pt2")
            request = {
                "program": str(folder / "network.pt2"),
                "target": str(folder / _FILE),
                "precision": precision,
                "images": None if images is None else str(_write_batches(images, len(example_inputs), folder)),
                "float_ends": self.float_ends,
                "layers": str(_write_layers(model, folder)) if images is not None and is_quantized(model) else None,
                "note": {"operators": operators(program), "signature": signature_of(model).to_json()},
            }
            _convert(request)
            artefact = (folder / _FILE).read_bytes()
        return LiteRtModel(artefact, self.threads)

    def _load(self, file: Path) -> CompiledModel:
        return LiteRtModel(file.read_bytes(), self.threads)


def _convert(request: dict[str, Any]) -> None:
    python = converter()
    assert python is not None, "why_unavailable looked for it"
    # Where to look for modules, and what to do with warnings, is the other environment's own affair.
    environment = {
        "PYTHONPATH": "",
        "PYTHONHOME": "",
        "PYTHONWARNINGS": "",
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_PLATFORMS": "cpu",
    }
    try:
        run_child(
            ["-I", litert_convert.__file__], request, timeout_s=_TIMEOUT_S, python=str(python), environment=environment
        )
    except ChildError as error:
        raise WorkFailed(f"LiteRT did not convert this network: {error}") from error


def _write_batches(images: Images, batch: int, folder: Path) -> Path:
    """(batches, batch, c, h, w) in a file; the last batch takes some from the first."""
    images = images[:_CALIBRATION_IMAGES]
    rounds = -(-len(images) // batch)
    filled = images[np.arange(rounds * batch) % len(images)]
    file = folder / "images.npy"
    np.save(file, filled.reshape(rounds, batch, *images.shape[1:]), allow_pickle=False)
    return file


def _write_layers(model: nn.Module, folder: Path) -> Path:
    """Write a file with the weights and ranges of a quantized network that `litert_convert` is to keep."""
    arrays: dict[str, Any] = {}
    quantized = [module for module in model.modules() if isinstance(module, QuantizedConv2d | QuantizedLinear)]
    for number, module in enumerate(quantized):
        scale, zero_point = float(module.input_scale), int(module.input_zero_point)
        arrays[f"weight{number}"] = module.dequantized_weight().cpu().numpy()
        arrays[f"range{number}"] = np.array([-zero_point * scale, (255 - zero_point) * scale], np.float32)
    dynamic = [module for module in model.modules() if isinstance(module, DynamicLinear)]
    for number, layer in enumerate(dynamic, len(quantized)):
        arrays[f"weight{number}"] = layer.dequantized_weight().cpu().numpy()
        arrays[f"dynamic{number}"] = np.ones(1, np.float32)
    written_weights = {entry.tobytes() for key, entry in arrays.items() if key.startswith("weight")}
    plain = [module for module in dequantize(model).modules() if type(module) in (nn.Conv2d, nn.Linear)]
    for number, float_layer in enumerate(plain, len(quantized) + len(dynamic)):
        weight = float_layer.get_parameter("weight").detach().cpu().numpy()
        if weight.tobytes() not in written_weights:
            arrays[f"weight{number}"] = weight
    file = folder / "layers.npz"
    np.savez(file, allow_pickle=False, **arrays)
    return file


def _rounded(images: Images, details: dict[str, Any]) -> Any:
    """The images as the file takes them."""
    if details["dtype"] == images.dtype:
        return images
    if not details["quantization"][0]:  # not rounded, but of another type
        return images.astype(details["dtype"])
    scale, zero_point = details["quantization"]
    limits = np.iinfo(details["dtype"])
    return np.clip(np.rint(images / scale) + zero_point, limits.min, limits.max).astype(details["dtype"])


def _as_float(logits: Any, details: dict[str, Any]) -> Images:
    if details["dtype"] == np.float32 or not details["quantization"][0]:
        return np.asarray(logits)
    scale, zero_point = details["quantization"]
    values: Images = ((logits.astype(np.float32) - zero_point) * scale).astype(np.float32)
    return values


def _note(model: Any) -> dict[str, Any]:
    """What `litert_convert` wrote into the file; nothing in a file of another program."""
    for entry in model.metadata or []:
        if entry.name == litert_convert.NOTE.encode():
            note: dict[str, Any] = json.loads(bytes(model.buffers[entry.buffer].data).decode())
            return note
    return {}


def _precision(model: Any, types: Any) -> str:
    """Precision of a file, by the types of its tensors."""
    tensor_types = {tensor.type for graph in model.subgraphs for tensor in graph.tensors}
    return "int8" if types.INT8 in tensor_types else "fp16" if types.FLOAT16 in tensor_types else "fp32"
