"""Weights of an ONNX file in the bits that the network stores them in.

The file holds levels and scales, or 16-bit numbers, and a few operators that make float32 weights of them. ONNX Runtime
computes these once, when it opens the file; what runs then, and the memory it takes, is that of the float32 network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasbench_compression.quantization.cast import DTYPES, HalfNetwork
from nasbench_compression.quantization.weight_only import WeightOnly


def store_weights(artefact: bytes, model: nn.Module) -> bytes:
    """The file with the weights of `WeightOnly` layers, and of a `HalfNetwork`, in their few bits.

    Weights are found by their values. One that the export has changed stays as it is.

    Args:
        artefact: ONNX file made from `dequantize(model)`.
        model: Network whose weights the file holds.
    """
    if not any(isinstance(module, WeightOnly | HalfNetwork) for module in model.modules()):
        return artefact
    import onnx
    from onnx import numpy_helper

    file = onnx.load_from_string(artefact)
    graph = file.graph
    layers = dict(_weights(model))
    halves = [DTYPES[module.precision] for module in model.modules() if isinstance(module, HalfNetwork)]
    initializers, new_nodes = [], []
    for entry in graph.initializer:
        if entry.data_type != onnx.TensorProto.FLOAT:
            initializers.append(entry)
            continue
        value = numpy_helper.to_array(entry)
        builder = _Builder(entry.name)
        layer_form = layers.get(_key(value))
        if layer_form is not None:
            _unpacking(builder, *layer_form)
        elif halves and value.size and _is_exact(value, halves[0]):
            _widening(builder, value, halves[0])
        else:
            initializers.append(entry)
            continue
        initializers += builder.constants
        new_nodes += builder.nodes
    nodes = [*new_nodes, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(initializers)
    graph.node.extend(nodes)
    return bytes(file.SerializeToString())


def _weights(model: nn.Module) -> Iterator[tuple[bytes, tuple[WeightOnly, bool]]]:
    """Key of the weight of each layer by its values, and whether that form of it is transposed."""
    exact: set[bytes] = set()
    for module in model.modules():
        if isinstance(module, WeightOnly):
            weight = module.dequantized_weight().cpu().numpy()
            key = _key(weight)
            exact.add(key)
            yield key, (module, False)
            if weight.ndim == 2 and _key(weight.T) not in exact:
                yield _key(weight.T), (module, True)


def _key(value: Any) -> bytes:
    return str(value.shape).encode() + np.ascontiguousarray(value, dtype=np.float32).tobytes()


def _is_exact(value: Any, dtype: torch.dtype) -> bool:
    tensor = torch.from_numpy(np.array(value))
    return bool(torch.equal(tensor.to(dtype).float(), tensor))


class _Builder:
    """Operators in a row, the last of which makes what an initializer held."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.constants: list[Any] = []
        self.nodes: list[Any] = []

    def constant(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"{self.name}/stored{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def run(self, operator: str, *inputs: str, last: bool = False, **attributes: Any) -> str:
        from onnx import helper

        name = self.name if last else f"{self.name}/made{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=f"{name}/{operator}", **attributes))
        return name


def _unpacking(builder: _Builder, layer: WeightOnly, transposed: bool) -> None:
    """(level - zero_point) * scale, from the levels as they are stored."""
    from onnx import TensorProto

    def floats(tensor: Tensor) -> str:
        return builder.run("Cast", builder.constant(tensor.cpu().numpy()), to=TensorProto.FLOAT)

    outputs, groups = layer.scale.shape
    levels = floats(layer.levels)
    if layer.bits == 4:
        sixteen = builder.constant(np.float32(16))
        upper = builder.run("Floor", builder.run("Div", levels, sixteen))
        lower = builder.run("Sub", levels, builder.run("Mul", upper, sixteen))
        one_each = builder.constant(np.array([outputs, groups, -1, 1], np.int64))
        pairs = [builder.run("Reshape", half, one_each) for half in (lower, upper)]
        joined = builder.run("Concat", *pairs, axis=3)
        levels = builder.run("Reshape", joined, builder.constant(np.array([outputs, groups, -1], np.int64)))
    if layer.zero_point is None:
        zero_point = builder.constant(np.float32(2 ** (layer.bits - 1)))
    else:
        zero_point = floats(layer.zero_point[..., None])
    scale = builder.constant(layer.scale[..., None].cpu().numpy())
    values = builder.run("Mul", builder.run("Sub", levels, zero_point), scale)
    rows = builder.run("Reshape", values, builder.constant(np.array([outputs, -1], np.int64)))
    count = int(np.prod(layer.weight_shape[1:]))
    ends = [builder.constant(np.array([number], np.int64)) for number in (0, count, 1)]
    rows = builder.run("Slice", rows, *ends)
    shape = builder.constant(np.array(layer.weight_shape, np.int64))
    weight = builder.run("Reshape", rows, shape, last=not transposed)
    if transposed:
        builder.run("Transpose", weight, perm=[1, 0], last=True)


def _widening(builder: _Builder, value: Any, dtype: torch.dtype) -> None:
    """A 16-bit number as float32."""
    from onnx import TensorProto, helper

    if dtype is torch.float16:
        stored = builder.constant(np.asarray(value).astype(np.float16))
    else:
        upper_half = (np.ascontiguousarray(value).view(np.uint32) >> 16).astype(np.uint16)
        stored = f"{builder.name}/stored"
        tensor = helper.make_tensor(stored, TensorProto.BFLOAT16, value.shape, upper_half.tobytes(), raw=True)
        builder.constants.append(tensor)
    builder.run("Cast", stored, to=TensorProto.FLOAT, last=True)
