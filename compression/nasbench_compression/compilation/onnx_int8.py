"""The int8 form of a float ONNX file, as the layers of the network say, with the quantizers of ONNX Runtime."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from nasbench_compression.compilation.backend import Images
from nasbench_compression.compilation.onnx_export import INPUT, quiet
from nasbench_compression.quantization.dynamic import DynamicLinear
from nasbench_compression.quantization.modules import QuantizedConv2d, QuantizedLinear, dequantize, is_quantized

# What of a partly quantized network is rounded: these follow the layers before them, others would drag in their inputs.
_PARTLY = ("Conv", "Gemm", "MatMul", "Relu", "Clip", "MaxPool", "Reshape", "Flatten", "Squeeze", "Transpose")
_KEEP_RANGE = ("MaxPool", "Reshape", "Flatten", "Squeeze", "Transpose")  # they give out the range that they are given


@dataclass
class _LayerForms:
    """Forms that the layers of a network ask of the nodes that hold their weights.

    Attributes:
        ranges: Ranges of the layers' inputs, by the bytes of the weight.
        dynamic: Weights of the layers that find their range while they run.
        plain: Weights of the layers that stay float.
    """

    ranges: dict[bytes, tuple[float, float]] = field(default_factory=dict)
    dynamic: set[bytes] = field(default_factory=set)
    plain: set[bytes] = field(default_factory=set)


def quantize_onnx(
    artefact: bytes, images: Images, model: nn.Module, *, signed: bool = False, half_range: bool = False
) -> bytes:
    """The int8 form of an exported network.

    Nodes are told apart by the values of their weights, for names do not survive the export. A network without
    quantized layers, or with static ones only, is quantized as a whole: everything that the runtime has an integer
    kernel for, sums and activations between the layers too. Where some layers stay float, the nodes around static ones
    are quantized and no others. Dynamic layers become `MatMulInteger`.

    Args:
        artefact: ONNX file of the float network, see `dequantize`.
        images: Images (m, c, h, w), for ranges that the layers do not give.
        model: Network whose layers say what is rounded.
        signed: Whether inputs are in int8 around zero and biases in float32, as graphics processors want them, which
            takes half of the levels from inputs that are never negative; otherwise inputs are in uint8 with a zero
            point.
        half_range: Whether static weights are rounded to 129 levels from -64 to 64, which is for processors that add
            two products of 8 bits in 16 bits; otherwise to the levels that the layers have.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    forms = _layer_forms(model)
    with tempfile.TemporaryDirectory() as folder, quiet(logging.WARNING), _batches(images) as reader:
        source, prepared, target = (Path(folder) / name for name in ("float.onnx", "prepared.onnx", "int8.onnx"))
        source.write_bytes(artefact)
        # Symbolic shapes are for networks with more than the batch left open; it needs sympy and much time.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        if forms.dynamic:
            _dynamic(prepared, target, forms)
        else:
            _static(prepared, target, reader, forms, signed, half_range)
        return target.read_bytes()


def _layer_forms(model: nn.Module) -> _LayerForms:
    forms = _LayerForms()
    if not is_quantized(model):
        return forms
    for module in model.modules():
        if isinstance(module, QuantizedConv2d | QuantizedLinear):
            scale, zero_point = float(module.input_scale), int(module.input_zero_point)
            for key in _keys(module.dequantized_weight().cpu().numpy()):
                forms.ranges[key] = (-zero_point * scale, (255 - zero_point) * scale)
        elif isinstance(module, DynamicLinear):
            forms.dynamic.update(_keys(module.dequantized_weight().cpu().numpy()))
    for module in dequantize(model).modules():
        if type(module) in (nn.Conv2d, nn.Linear):
            keys = _keys(module.weight.detach().cpu().numpy())  # type: ignore[operator]  # one of the two
            forms.plain.update(key for key in keys if key not in forms.ranges and key not in forms.dynamic)
    return forms


def _keys(weight: Images) -> list[bytes]:
    """Keys of a weight by its values, as it is and transposed."""
    forms = [weight, weight.T] if weight.ndim == 2 else [weight]
    return [str(form.shape).encode() + np.ascontiguousarray(form, dtype=np.float32).tobytes() for form in forms]


def _keys_of_nodes(model: Any) -> dict[str, bytes]:
    """The key of each node that has a weight, by the name of the node."""
    from onnx import numpy_helper

    weights = {entry.name: entry for entry in model.graph.initializer}
    return {
        node.name: _keys(numpy_helper.to_array(weights[node.input[1]]))[0]
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in weights
    }


def _dynamic(prepared: Path, target: Path, forms: _LayerForms) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    keys = _keys_of_nodes(onnx.load(prepared))
    excluded = [name for name, key in keys.items() if key not in forms.dynamic]
    quantize_dynamic(
        str(prepared),
        str(target),
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[*excluded, *(f"{name}_MatMul" for name in excluded)],  # it takes a Gemm apart and renames it
    )


def _static(prepared: Path, target: Path, reader: Any, forms: _LayerForms, signed: bool, half_range: bool) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    model = onnx.load(prepared)
    keys = _keys_of_nodes(model)
    partly = any(key in forms.plain for key in keys.values())
    weighted = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    quantize_static(
        str(prepared),
        str(target),
        reader,
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        reduce_range=half_range,
        calibrate_method=CalibrationMethod.MinMax,
        op_types_to_quantize=list(_PARTLY) if partly else None,
        nodes_to_exclude=[node.name for node in weighted if keys.get(node.name) not in forms.ranges]
        if partly
        else None,
        extra_options={
            "TensorQuantOverrides": {**_overrides(model, keys, forms), **_grouped_transposed(model)},
            "ActivationSymmetric": signed,
            "QuantizeBias": not signed,
        },
    )


def _overrides(model: Any, keys: dict[str, bytes], forms: _LayerForms) -> dict[str, list[dict[str, Any]]]:
    """The ranges of tensors that quantized layers read, and of those from which such a tensor takes its range."""
    makers = {output: node for node in model.graph.node for output in node.output}
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    ranges: dict[str, tuple[float, float]] = {}
    for node in model.graph.node:
        key = keys.get(node.name)
        if key is None or key not in forms.ranges:
            continue
        name = node.input[0]
        low, high = forms.ranges[key]
        if name in ranges:  # two layers read it: both have room
            low, high = min(low, ranges[name][0]), max(high, ranges[name][1])
        ranges[name] = low, high
        while name in makers and makers[name].op_type in _KEEP_RANGE and readers[makers[name].input[0]] == 1:
            name = makers[name].input[0]
            ranges[name] = low, high
    return {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in ranges.items()}


def _grouped_transposed(model: Any) -> dict[str, list[dict[str, Any]]]:
    """One scale for the whole weight of a grouped transposed convolution.

    Such a weight is (in_channels, out_channels / groups, ...): no axis of it has an output channel of its own in each
    place, and the scales that the quantizer takes along the second one do not fit the bias.
    """
    from onnxruntime.quantization import QuantType

    groups = {
        node.input[1]: attribute.i
        for node in model.graph.node
        if node.op_type == "ConvTranspose"
        for attribute in node.attribute
        if attribute.name == "group"
    }
    alike = {"quant_type": QuantType.QInt8, "symmetric": True}
    return {weight: [dict(alike)] for weight, count in groups.items() if count > 1}


@contextlib.contextmanager
def _batches(images: Images, size: int = 32) -> Iterator[Any]:
    """A calibration reader of ONNX Runtime over these images."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            self.batches = iter(np.array_split(images, max(1, len(images) // size)))

        def get_next(self) -> dict[str, Images] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    yield Reader()
