"""A program of its own, which makes a TFLite file of an exported network; see `LiteRt`.

It runs in the environment of `make litert`, where this project is not installed: it must not import it. Its two
arguments are those of a child of `run_child`: a file with the request, and one for the answer. The request names files:

    program: File that torch.export.save wrote, with one input (n, c, h, w) and one output (n, classes).
    target: the TFLite file to be written.
    precision: fp32, fp16 or int8.
    images: for int8, an .npy of (batches, n, c, h, w) float32.
    float_ends: for int8, whether the file takes and gives float32.
    layers: for int8 of a quantized network, an .npz with `weightI` of its layers, and `rangeI` (low, high) of the input
        of those that have one, `dynamicI` of those that find it while they run; layers with neither stay float.
    note: JSON, kept in the file.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

NOTE = "nasbench"  # the name of the metadata in the file
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_KEEP_RANGE = ("TRANSPOSE", "RESHAPE", "MAX_POOL_2D", "PAD", "SQUEEZE", "EXPAND_DIMS")  # the range of their input


def work(request: dict[str, Any]) -> None:
    """Write `target`."""
    import torch

    torch.set_num_threads(1)
    import litert_torch

    program = torch.export.load(request["program"])
    example = [torch.zeros(entry.shape) for entry in _inputs(program)]
    target = Path(request["target"])
    litert_torch.convert(program.module(), tuple(example)).export(str(target))
    precision = request["precision"]
    if precision == "fp16":
        _halve(target)
    elif precision == "int8":
        layers = np.load(request["layers"]) if request["layers"] else {}
        _quantize(target, np.load(request["images"]), dict(layers), float_ends=request["float_ends"])
    _write_note(target, json.dumps({**request["note"], "precision": precision}))


def _inputs(program: Any) -> list[Any]:
    names = set(program.graph_signature.user_inputs)
    return [node.meta["val"] for node in program.graph.nodes if node.name in names]


def _halve(target: Path) -> None:
    """Store the weights of a file in float16."""
    from ai_edge_quantizer import qtyping, quantizer
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    half = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    model_quantizer = quantizer.Quantizer(str(target))
    for kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_2D_TRANSPOSE"):
        model_quantizer.update_quantization_recipe(
            ".*", qtyping.TFLOperationName[kind], half, AlgorithmName.FLOAT_CASTING
        )
    model_quantizer.quantize(None).export_model(str(target), overwrite=True)


def _quantize(target: Path, batches: Any, layers: dict[str, Any], *, float_ends: bool) -> None:
    """Quantize weights and activations of a file to int8, with the ranges of the images and of the layers."""
    from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.utils import qsv_utils

    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    recipe = recipe_manager.RecipeManager()
    recipe.add_static_config(".*", everything, activation_num_bits=8, weight_num_bits=8)
    if float_ends:
        for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            recipe.add_quantization_config(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    layer_operators = _find_operators(target, layers) if layers else []
    for scope, kind, number, _ in layer_operators:
        exactly = f"^{re.escape(scope)}$"
        if f"dynamic{number}" in layers:
            recipe.add_dynamic_config(exactly, qtyping.TFLOperationName[kind], num_bits=8)
        elif f"range{number}" not in layers:
            recipe.add_quantization_config(exactly, everything, algorithm_key=AlgorithmName.NO_QUANTIZE)
    model_quantizer = quantizer.Quantizer(str(target))
    model_quantizer.load_quantization_recipe(recipe.get_quantization_recipe())
    reader = calibrator.Calibrator(
        str(target),
        num_threads=1,
        mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,  # the other mode takes six times as long
        qsv_update_func=qsv_utils.min_max_update,  # its default is an average that forgets
    )
    signature, name = _signature(target)
    reader.calibrate({signature: [{name: batch} for batch in batches]}, recipe)
    ranges = reader.get_model_qsvs()
    input_ranges: dict[str, tuple[float, float]] = {}
    for _, _, number, tensors in layer_operators:
        if f"range{number}" in layers:
            low, high = (float(value) for value in layers[f"range{number}"])
            for tensor in tensors:  # where two layers read it, both have room
                before = input_ranges.get(tensor, (low, high))
                input_ranges[tensor] = min(low, before[0]), max(high, before[1])
    for tensor, (low, high) in input_ranges.items():
        if ranges.get(tensor):
            shape = np.shape(ranges[tensor]["min"])
            ranges[tensor] = {"min": np.full(shape, low, np.float32), "max": np.full(shape, high, np.float32)}
    model_quantizer.quantize(ranges).export_model(str(target), overwrite=True)


def _signature(target: Path) -> tuple[str, str]:
    from ai_edge_litert.interpreter import Interpreter

    ((signature, names),) = Interpreter(model_path=str(target)).get_signature_list().items()
    return signature, names["inputs"][0]


def _find_operators(target: Path, layers: dict[str, Any]) -> list[tuple[str, str, int, list[str]]]:
    """Operators that hold the weight of a layer, recognized by its values.

    Returns:
        Of each: its scope in a recipe, its kind, the number of the layer, and the names of its input and of the tensors
        from which that one has its range.
    """
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils as utils

    layer_numbers = {}
    for key, weight in layers.items():
        if key.startswith("weight"):
            for form in _forms(weight):
                layer_numbers[_key(form)] = int(key[len("weight") :])
    model = utils.read_model(str(target))
    names = {code: str(getattr(kind, "value", kind)) for code, kind in utils.TFL_OP_CODE_TO_NAME.items()}
    operators = []
    for graph in model.subgraphs:
        kinds = [names.get(model.operatorCodes[op.opcodeIndex].builtinCode, "") for op in graph.operators]
        makers = {output: index for index, op in enumerate(graph.operators) for output in op.outputs}
        readers = [entry for op in graph.operators for entry in op.inputs]
        for op, kind in zip(graph.operators, kinds, strict=True):
            if kind not in _WEIGHTED:
                continue
            value = utils.get_tensor_data(graph.tensors[op.inputs[1]], model.buffers)
            if value is None or _key(value) not in layer_numbers:
                continue
            sources = [op.inputs[0]]
            while sources[-1] in makers and kinds[makers[sources[-1]]] in _KEEP_RANGE:
                source = graph.operators[makers[sources[-1]]].inputs[0]
                if readers.count(source) > 1:
                    break
                sources.append(source)
            tensors = [utils.get_tensor_name(graph.tensors[source]) for source in sources]
            operators.append((utils.get_op_scope(op, graph.tensors), kind, layer_numbers[_key(value)], tensors))
    return operators


def _forms(weight: Any) -> list[Any]:
    """A torch weight in the layouts of TFLite."""
    if weight.ndim == 2:
        return [weight, weight.reshape(len(weight), 1, 1, -1)]
    forms = [weight.transpose(0, 2, 3, 1)]
    if weight.shape[1] == 1:
        forms.append(weight.transpose(1, 2, 3, 0))
    if weight.shape[2:] == (1, 1):
        forms.append(weight.reshape(weight.shape[:2]))
    return forms


def _key(value: Any) -> bytes:
    return str(value.shape).encode() + np.ascontiguousarray(value, dtype=np.float32).tobytes()


def _write_note(target: Path, note: str) -> None:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(target))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(note.encode(), np.uint8)
    entry.name, entry.buffer = NOTE, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    flatbuffer_utils.write_model(model, str(target))


def main() -> None:
    """Read the request, write the file, and then the answer."""
    request_file, answer_file = (Path(argument) for argument in sys.argv[-2:])
    warnings.simplefilter("ignore")
    try:
        work(json.loads(request_file.read_text(encoding="utf-8")))
        reply: dict[str, Any] = {"result": None}
    except Exception as error:  # whatever the converter raises is the answer
        reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:400] or 'no message'}"}
    answer_file.write_text(json.dumps(reply), encoding="utf-8")


if __name__ == "__main__":
    main()
