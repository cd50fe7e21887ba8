"""Networks whose code is not at hand: programs of ``torch.export``, with their layers as modules again.

An exported program is a list of operations on tensors; what changes networks here changes layers. So each convolution,
linear map, norm, embedding and dropout of the program becomes the module that it came from, at the path of its weights,
and everything else stays an operation. What is kept of a program is this list as JSON values: a stored network needs
neither the file that it came from nor the code of its class, and reading it runs no code but operations of PyTorch.
"""

from __future__ import annotations

import operator
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from nasbench.models.build import FunctionBuild
from nasbench_registry import UserError

BUILD = "nasbench.models.program:network_of"
SUFFIX = ".pt2"
GETITEM = "getitem"
LAYERS = (
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Linear", "BatchNorm1d",
    "BatchNorm2d", "BatchNorm3d", "LayerNorm", "GroupNorm", "Embedding", "Dropout",
)  # fmt: skip
WORDS = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}

Row = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """A module in place of an operation.

    Attributes:
        kind: Class of the module in `torch.nn`.
        options: Options of the class.
        inputs: Arguments of the operation that the module is called with.
        tensors: Arguments of the operation that are its parameters and buffers, by name; None for one it lacks.
    """

    kind: str
    options: Mapping[str, Any]
    inputs: Sequence[Any]
    tensors: Mapping[str, fx.Node | None]


MakeLayer = Callable[[fx.Node, Mapping[str, Tensor]], Layer | None]
"""layer(operation, tensors of the program by name) -> the module in its place; None leaves the operation."""


def read_program(source: str | Path | ExportedProgram) -> tuple[nn.Module, FunctionBuild]:
    """A network of an exported program, with its weights, and how its structure is built again.

    Args:
        source: Program, or a file of `torch.export.save`. Its first axis, the batch, must be dynamic.

    Returns:
        The network in eval mode, whose parameters have the names that they had, and its build.

    Raises:
        UserError: It is no such file, its batch is fixed, or it holds what cannot be kept as JSON.
    """
    program = source if isinstance(source, ExportedProgram) else _loaded(Path(source))
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule), "a program is a graph"
    program_tensors = dict(module.named_parameters(remove_duplicate=False)) | dict(
        module.named_buffers(remove_duplicate=False)
    )
    rows = _rows(module.graph, program_tensors)
    build = FunctionBuild(BUILD, {"operations": rows})
    network = build.call()
    state = network.state_dict()
    network.load_state_dict({name: program_tensors.get(name, value) for name, value in state.items()})
    return network.eval(), build


def network_of(operations: Sequence[Row]) -> nn.Module:
    """A network of the rows that `read_program` made of a program; its weights are fresh.

    Args:
        operations: JSON values, a row for each operation.
    """
    root, graph = nn.Module(), fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for row in operations:
        kind, name = row["kind"], row["name"]
        if kind == "input":
            nodes[name] = graph.placeholder(name)
        elif kind == "output":
            graph.output(_decoded(row["args"], nodes))
        elif kind == "tensor":
            values = torch.zeros(row["shape"], dtype=_word("dtype", row["dtype"]))
            owner, _, last = row["path"].rpartition(".")
            if row["trained"]:
                _inner(root, owner).register_parameter(last, nn.Parameter(values))
            else:
                _inner(root, owner).register_buffer(last, values)
            nodes[name] = graph.get_attr(row["path"])
        elif kind in LAYERS:
            owner, _, last = row["path"].rpartition(".")
            parent = _inner(root, owner)
            if not hasattr(parent, last):
                parent.add_module(last, getattr(nn, kind)(**row["options"]))
            nodes[name] = graph.call_module(row["path"], tuple(_decoded(row["args"], nodes)))
        else:
            args, options = _decoded(row["args"], nodes), _decoded(row["options"], nodes)
            nodes[name] = graph.call_function(_operation(kind), tuple(args), options)
    return fx.GraphModule(root, graph, "Program")


def _inner(root: nn.Module, path: str) -> nn.Module:
    """The module at a path, made where it is not there."""
    for name in filter(None, path.split(".")):
        if not hasattr(root, name):
            root.add_module(name, nn.Module())
        root = getattr(root, name)
    return root


def _loaded(file: Path) -> ExportedProgram:
    # Asked first, for torch writes a traceback into its log about what it cannot open.
    if not file.is_file():
        raise UserError(f"there is no file {file}; give one of torch.export.save.")
    if not zipfile.is_zipfile(file):
        raise UserError(f"{file} is not read as a program of torch.export.save (it is no archive).")
    try:
        return torch.export.load(file)
    except Exception as error:  # torch says in many ways that a file is none of its programs
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{file} is not read as a program of torch.export.save ({words}).") from error


def _rows(graph: fx.Graph, program_tensors: Mapping[str, Tensor]) -> list[Row]:
    layers = _layers(graph, program_tensors)
    rows: list[Row] = []
    for node in graph.nodes:
        row: Row = {"name": node.name}
        if node.op == "placeholder":
            value = node.meta.get("val")
            if isinstance(value, Tensor) and (not value.ndim or isinstance(value.shape[0], int)):
                raise UserError(
                    f"the program takes {node.name} of shape {tuple(value.shape)} only; batches must have any size: "
                    f"export it with dynamic_shapes={{{node.name!r}: {{0: torch.export.Dim('batch')}}}}."
                )
            rows.append(row | {"kind": "input"})
        elif node.op == "output":
            (outputs,) = node.args
            alone = isinstance(outputs, tuple | list) and len(outputs) == 1
            rows.append(row | {"kind": "output", "args": _encoded(outputs[0] if alone else outputs, node)})
        elif node in layers:
            path, layer = layers[node]
            args = [_encoded(value, node) for value in layer.inputs]
            rows.append(row | {"kind": layer.kind, "path": path, "options": dict(layer.options), "args": args})
        elif node.op == "get_attr":
            value = program_tensors.get(str(node.target))
            if value is None:
                raise UserError(f"the program holds {node.target}, which is no tensor; export a network without it.")
            if any(_reads(user, layers) for user in node.users):
                about = {"path": str(node.target), "shape": list(value.shape), "dtype": _name(value.dtype)}
                rows.append(row | {"kind": "tensor", **about, "trained": isinstance(value, nn.Parameter)})
        elif node.op == "call_function" and not _counts_batches(node):
            target = GETITEM if node.target is operator.getitem else str(node.target)
            _operation(target)  # refuses what could not be read again
            args, options = _encoded(node.args, node), _encoded(node.kwargs, node)
            rows.append(row | {"kind": target, "args": args, "options": options})
    return rows


def _layers(graph: fx.Graph, program_tensors: Mapping[str, Tensor]) -> dict[fx.Node, tuple[str, Layer]]:
    """The operations that become modules, each with its path; of two that share a weight, only if they are alike."""
    chosen: dict[fx.Node, tuple[str, Layer]] = {}
    alike: dict[str, tuple[Any, ...]] = {}
    clashing: set[str] = set()
    for node in graph.nodes:
        make = LIFTED.get(str(node.target)) if node.op == "call_function" else None
        layer = None if make is None else make(node, program_tensors)
        if layer is None:
            continue
        paths = {
            name: None if tensor_node is None else str(tensor_node.target)
            for name, tensor_node in layer.tensors.items()
        }
        owners = {path.rpartition(".")[0] for path in paths.values() if path is not None} or {node.name}
        named = all(path is None or path.rpartition(".")[2] == name for name, path in paths.items())
        shape = (layer.kind, tuple(layer.options.items()), tuple(paths.items()))
        path = min(owners)
        if len(owners) > 1 or not named or not path:
            continue
        if alike.setdefault(path, shape) != shape:
            clashing.add(path)
        chosen[node] = (path, layer)
    for path, layer in chosen.values():
        tensors = [tensor_node for tensor_node in layer.tensors.values() if tensor_node is not None]
        outside = any(_reads(user, chosen) for tensor_node in tensors for user in tensor_node.users)
        if path in clashing or outside:
            clashing.add(path)
    return {node: entry for node, entry in chosen.items() if entry[0] not in clashing}


def _reads(user: fx.Node, layers: Mapping[fx.Node, Any]) -> bool:
    """Whether an operation that takes a tensor of the program reads it itself, and no layer does that for it."""
    return user not in layers and not _counts_batches(user)


def _counts_batches(node: fx.Node) -> bool:
    """Whether it is the count of batches of a norm, which the norm does itself."""
    return (
        node.op == "call_function"
        and str(node.target).startswith("aten.add_")
        and isinstance(node.args[0], fx.Node)
        and node.args[0].op == "get_attr"
        and str(node.args[0].target).endswith("num_batches_tracked")
    )


# ---- the operations that are layers


def _arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of an operation by name, defaults included."""
    assert isinstance(node.target, torch._ops.OpOverload), "of the operations of PyTorch"
    values: dict[str, Any] = {}
    for position, argument in enumerate(node.target._schema.arguments):
        value = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
        missing = position >= len(node.args) and argument.name not in node.kwargs
        values[argument.name] = argument.default_value if missing else value
    return values


def _held(program_tensors: Mapping[str, Tensor], *nodes: Any) -> bool:
    """Whether these are tensors of the program itself, or None."""
    return all(
        node is None or (isinstance(node, fx.Node) and node.op == "get_attr" and str(node.target) in program_tensors)
        for node in nodes
    )


def _convolution(dimensions: int, *, transposed: bool = False) -> MakeLayer:
    def layer(node: fx.Node, program_tensors: Mapping[str, Tensor]) -> Layer | None:
        arguments = _arguments(node)
        weight, bias, groups = arguments["weight"], arguments["bias"], arguments["groups"]
        if weight is None or not _held(program_tensors, weight, bias):
            return None
        shape = program_tensors[str(weight.target)].shape
        first, second = (shape[0], shape[1] * groups) if transposed else (shape[1] * groups, shape[0])
        options: dict[str, Any] = {
            "in_channels": first,
            "out_channels": second,
            "kernel_size": list(shape[2:]),
            "stride": _per_dimension(arguments["stride"], dimensions),
            "padding": arguments["padding"]
            if isinstance(arguments["padding"], str)
            else _per_dimension(arguments["padding"], dimensions),
            "dilation": _per_dimension(arguments["dilation"], dimensions),
            "groups": groups,
            "bias": bias is not None,
        }
        if transposed:
            options["output_padding"] = _per_dimension(arguments["output_padding"], dimensions)
        kind = f"Conv{'Transpose' if transposed else ''}{dimensions}d"
        return Layer(kind, options, [arguments["input"]], {"weight": weight, "bias": bias})

    return layer


def _per_dimension(values: Any, dimensions: int) -> list[int]:
    listed = [values] if isinstance(values, int) else list(values)
    return listed * dimensions if len(listed) == 1 else listed


def _linear(node: fx.Node, program_tensors: Mapping[str, Tensor]) -> Layer | None:
    arguments = _arguments(node)
    weight, bias = arguments["weight"], arguments["bias"]
    if weight is None or not _held(program_tensors, weight, bias):
        return None
    outputs, inputs = program_tensors[str(weight.target)].shape
    options = {"in_features": inputs, "out_features": outputs, "bias": bias is not None}
    return Layer("Linear", options, [arguments["input"]], {"weight": weight, "bias": bias})


def _batch_norm(node: fx.Node, program_tensors: Mapping[str, Tensor]) -> Layer | None:
    arguments = _arguments(node)
    tensors = {name: arguments[name] for name in ("weight", "bias", "running_mean", "running_var")}
    input_value = arguments["input"].meta.get("val")
    if (
        arguments["running_mean"] is None
        or not _held(program_tensors, *tensors.values())
        or not isinstance(input_value, Tensor)
    ):
        return None
    if (arguments["weight"] is None) != (arguments["bias"] is None) or input_value.ndim not in (2, 3, 4, 5):
        return None
    options = {
        "num_features": len(program_tensors[str(arguments["running_mean"].target)]),
        "eps": arguments["eps"],
        "momentum": arguments["momentum"],
        "affine": arguments["weight"] is not None,
    }
    return Layer(f"BatchNorm{max(1, input_value.ndim - 2)}d", options, [arguments["input"]], tensors)


def _layer_norm(node: fx.Node, program_tensors: Mapping[str, Tensor]) -> Layer | None:
    arguments = _arguments(node)
    weight, bias, shape = arguments["weight"], arguments["bias"], arguments["normalized_shape"]
    if not _held(program_tensors, weight, bias) or weight is None or not all(isinstance(size, int) for size in shape):
        return None
    options = {"normalized_shape": list(shape), "eps": arguments["eps"], "bias": bias is not None}
    return Layer("LayerNorm", options, [arguments["input"]], {"weight": weight, "bias": bias})


def _group_norm(node: fx.Node, program_tensors: Mapping[str, Tensor]) -> Layer | None:
    arguments = _arguments(node)
    weight, bias = arguments["weight"], arguments["bias"]
    if weight is None or bias is None or not _held(program_tensors, weight, bias):
        return None
    channels = len(program_tensors[str(weight.target)])
    options = {"num_groups": arguments["num_groups"], "num_channels": channels, "eps": arguments["eps"]}
    return Layer("GroupNorm", options, [arguments["input"]], {"weight": weight, "bias": bias})


def _embedding(node: fx.Node, program_tensors: Mapping[str, Tensor]) -> Layer | None:
    arguments = _arguments(node)
    weight, padding = arguments["weight"], arguments["padding_idx"]
    if not _held(program_tensors, weight) or arguments["scale_grad_by_freq"] or arguments["sparse"]:
        return None
    count, width = program_tensors[str(weight.target)].shape
    options = {"num_embeddings": count, "embedding_dim": width, "padding_idx": padding if padding >= 0 else None}
    return Layer("Embedding", options, [arguments["indices"]], {"weight": weight})


def _dropout(node: fx.Node, program_tensors: Mapping[str, Tensor]) -> Layer | None:
    arguments = _arguments(node)
    return Layer("Dropout", {"p": arguments["p"]}, [arguments["input"]], {})


LIFTED: Mapping[str, MakeLayer] = {
    **{f"aten.conv{d}d.{form}": _convolution(d) for d in (1, 2, 3) for form in ("default", "padding")},
    "aten.conv_transpose1d.default": _convolution(1, transposed=True),
    "aten.conv_transpose2d.input": _convolution(2, transposed=True),
    "aten.conv_transpose3d.input": _convolution(3, transposed=True),
    "aten.linear.default": _linear,
    "aten.batch_norm.default": _batch_norm,
    "aten.layer_norm.default": _layer_norm,
    "aten.group_norm.default": _group_norm,
    "aten.embedding.default": _embedding,
    "aten.dropout.default": _dropout,
    "aten.dropout_.default": _dropout,
}


# ---- values of a program as JSON values


def _encoded(value: Any, node: fx.Node) -> Any:
    if isinstance(value, fx.Node):
        return {"of": value.name}
    if isinstance(value, slice):
        return {"slice": [_encoded(item, node) for item in (value.start, value.stop, value.step)]}
    if isinstance(value, Mapping):
        return {"options": {key: _encoded(item, node) for key, item in value.items()}}
    if isinstance(value, tuple | list):
        return [_encoded(item, node) for item in value]
    for name, kind in WORDS.items():
        if isinstance(value, kind):
            return {name: _name(value)}
    if isinstance(value, torch.device):
        return {"device": value.type}
    if value is None or isinstance(value, bool | int | float | str):
        return {"number": str(value)} if isinstance(value, float) and value in (float("inf"), -float("inf")) else value
    raise UserError(
        f"operation {node.target} of the program has an argument {value!r}, which cannot be kept; leave it out of what "
        f"is exported."
    )


def _decoded(value: Any, nodes: Mapping[str, fx.Node]) -> Any:
    if isinstance(value, list):
        return [_decoded(item, nodes) for item in value]
    if not isinstance(value, Mapping):
        return value
    ((kind, inner),) = value.items()
    if kind == "of":
        return nodes[inner]
    if kind == "slice":
        return slice(*_decoded(inner, nodes))
    if kind == "options":
        return {key: _decoded(item, nodes) for key, item in inner.items()}
    if kind == "device":
        return torch.device(inner)
    return float(inner) if kind == "number" else _word(kind, inner)


def _name(value: object) -> str:
    return str(value).removeprefix("torch.")


def _word(kind: str, name: str) -> Any:
    constant = getattr(torch, name, None)
    if not isinstance(constant, WORDS[kind]):
        raise UserError(f"{name!r} is no {kind} of PyTorch {torch.__version__}.")
    return constant


def _operation(name: str) -> Callable[..., Any]:
    """An operation by its name; only those of PyTorch itself are looked up."""
    if name == GETITEM:
        return operator.getitem
    library, _, rest = name.partition(".")
    packet, _, overload = rest.rpartition(".")
    resolved = getattr(getattr(torch.ops.aten, packet, None), overload, None) if library == "aten" else None
    if resolved is None and hasattr(operator, name) and not name.startswith("_"):
        resolved = getattr(operator, name)  # arithmetic on sizes
    if not callable(resolved):
        raise UserError(f"operation {name!r} of the program is none of PyTorch {torch.__version__}.")
    operation: Callable[..., Any] = resolved
    return operation
