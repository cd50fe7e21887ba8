"""Which channels of which modules go together, found by following a network on one batch of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary
from torch_pruning import ops
from torch_pruning.pruner import function

from nasbench_compression.attention import no_fast_path
from nasbench_compression.outputs import tensors_of
from nasbench_compression.pruning.calls import Call, elementwise, opaque
from nasbench_compression.pruning.labels import Array, Axes, Components, Labels
from nasbench_compression.pruning.rules import RULES
from nasbench_compression.surgery import why_computed

ROOTS = (nn.modules.conv._ConvNd, nn.Linear)
"""Layers whose output channels can be removed."""

OUTPUT = "its output is the output of the network"
_Handler = Callable[[Any, list[int]], Any]


@dataclass(frozen=True, kw_only=True)
class Side:
    """The channels on one side of a module, or along a dimension of a bare parameter or buffer.

    Attributes:
        name: Name of the module, or of the tensor where `dimension` is set.
        handler: Torch-pruning's function that removes channels there; None where `dimension` is set.
        labels: Label of each channel, (channels,).
        produces: Whether the channels are outputs of the module, not inputs.
        dimension: Dimension of a bare tensor along which the channels lie; None for a module.
    """

    name: str
    handler: _Handler | None
    labels: Array
    produces: bool
    dimension: int | None = None


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """What goes together in a network.

    Attributes:
        sides: Sides of all modules and bare tensors.
        outputs: Labels of the output channels of each layer, by the layer's name.
        runs: Names of the layers whose weights were used.
        components: Labels that go together, and labels that stay.
    """

    sides: tuple[Side, ...]
    outputs: Mapping[str, Array]
    runs: frozenset[str]
    components: Components


def follow(model: nn.Module, inputs: Tensor) -> Coupling:
    """Follow the channels of a network through one forward pass.

    Every operation of ATen that runs is seen, so it does not matter whether a layer is called or its weight read,
    once or several times, with or without gradients. Time and memory are linear in the operations and in the channels.

    Args:
        model: Network in evaluation mode; it runs once.
        inputs: Images (n, c, h, w) as the network takes them.
    """
    labels = Labels()
    follower = _Follower(labels)
    sides, outputs = _label_modules(model, labels, follower)
    with torch.inference_mode(), no_fast_path(), follower:
        results = tensors_of(model(inputs))
    for tensor in results.values():
        for axis in follower.axes(tensor).values():
            labels.freeze(axis, OUTPUT)
    used = {
        name
        for name, module in model.named_modules()
        if any(id(parameter) in follower.used for parameter in module.parameters(recurse=False))
    }
    return Coupling(sides=tuple(sides), outputs=outputs, runs=frozenset(used), components=labels.components())


class _Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Gives the results of each operation the labels that follow from those of its arguments."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self._labels = labels
        self._axes = WeakTensorKeyDictionary()
        self.used: set[int] = set()

    def axes(self, tensor: Tensor) -> Axes:
        """The labels of a tensor."""
        axes: Axes = self._axes.get(tensor, {})  # type: ignore[no-untyped-call]  # torch has no types here
        return axes

    def put(self, tensor: Tensor, axes: Axes) -> None:
        """Set the labels of a tensor."""
        self._axes[tensor] = axes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, in parts if it has no rule and consists of others."""
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        name = name.removesuffix("_") or name
        rule = RULES.get(name)
        if rule is None and func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        schema = func._schema.arguments
        passed = {argument.name: value for argument, value in zip(schema, args, strict=False)} | kwargs
        defaults = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
        arguments = passed | {key: value for key, value in defaults.items() if key not in passed}
        result = func(*args, **kwargs)
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        call = Call(name=name, arguments=arguments, results=results, labels=self._labels, axes=self.axes, put=self.put)
        for tensor in call.tensors:
            if isinstance(tensor, nn.Parameter):
                self.used.add(id(tensor))
                if tensor not in self._axes:
                    self.put(
                        tensor, {dim: self._labels.fresh(size) for dim, size in enumerate(tensor.shape) if size > 1}
                    )
                    call.freeze([tensor], "they meet a weight that is no parameter of the network, as in a plain list")
        try:
            (rule or elementwise)(call)
        except (IndexError, KeyError, ValueError, TypeError, StopIteration, AttributeError, AssertionError):
            opaque(call)  # a form of the operation of which its rule does not know
        return result


@dataclass(frozen=True, kw_only=True)
class _ModuleLabels:
    """Labels of the channels of a module that can be cut.

    Attributes:
        sides: Handler, labels and `produces` of each side, as in `Side`.
        tensors: Labels of its parameters and buffers, by name.
        outputs: Labels of its output channels.
    """

    sides: list[tuple[_Handler, Array, bool]]
    tensors: dict[str, Axes]
    outputs: Array


def _label_module(module: nn.Module, labels: Labels) -> _ModuleLabels | None:
    """Labels for a module of a kind that torch-pruning can cut, and for what belongs to it."""
    cut = function.PrunerBox.get(ops.module2type(module))
    if isinstance(module, nn.modules.conv._ConvNd):
        return _label_convolution(module, labels)
    if isinstance(module, nn.Linear):
        inputs, outputs = labels.fresh(module.in_features), labels.fresh(module.out_features)
        return _ModuleLabels(
            sides=[(cut.prune_in_channels, inputs, False), (cut.prune_out_channels, outputs, True)],
            tensors={"weight": {0: outputs, 1: inputs}, "bias": {0: outputs}},
            outputs=outputs,
        )
    if isinstance(module, nn.RNNBase):
        inputs = labels.fresh(module.input_size)
        reads = function.PrunerBox[ops.OPTYPE.LSTM].prune_in_channels  # it knows weights by names that all of them have
        return _ModuleLabels(
            sides=[(reads, inputs, False)],
            tensors={"weight_ih_l0": {1: inputs}, "weight_ih_l0_reverse": {1: inputs}},
            outputs=inputs,
        )
    if isinstance(module, nn.Embedding):
        columns = labels.fresh(module.embedding_dim)
        return _ModuleLabels(
            sides=[(cut.prune_out_channels, columns, True)], tensors={"weight": {1: columns}}, outputs=columns
        )
    channels = _normalized(module, labels)
    if channels is None:
        return None
    tensors = {key: {0: channels} for key in ("weight", "bias", "running_mean", "running_var")}
    fewer = _fewer_of_root_mean_square if isinstance(module, nn.RMSNorm) else cut.prune_out_channels
    return _ModuleLabels(sides=[(fewer, channels, True)], tensors=tensors, outputs=channels)


def _label_convolution(module: nn.modules.conv._ConvNd, labels: Labels) -> _ModuleLabels:
    groups = module.groups
    if 1 < groups == module.in_channels == module.out_channels:
        channels = labels.fresh(groups)
        return _ModuleLabels(
            sides=[(function.prune_depthwise_conv_out_channels, channels, True)],
            tensors={"weight": {0: channels}, "bias": {0: channels}},
            outputs=channels,
        )
    # All groups lose the same channels.
    group_inputs, group_outputs = (
        labels.fresh(module.in_channels // groups),
        labels.fresh(module.out_channels // groups),
    )
    inputs, outputs = np.tile(group_inputs, groups), np.tile(group_outputs, groups)
    handlers = (function.prune_conv_in_channels, function.prune_conv_out_channels)
    if module.transposed and groups > 1:
        handlers = (_fewer_inputs, _fewer_outputs)
    return _ModuleLabels(
        sides=[(handlers[0], inputs, False), (handlers[1], outputs, True)],
        tensors={
            "weight": {0: inputs, 1: group_outputs} if module.transposed else {0: outputs, 1: group_inputs},
            "bias": {0: outputs},
        },
        outputs=outputs,
    )


def _normalized(module: nn.Module, labels: Labels) -> Array | None:
    """Labels of the channels that a norm or an activation has values for; None if it is none, or of another form."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm):
        return labels.fresh(module.num_features)
    if isinstance(module, nn.GroupNorm):
        return np.tile(labels.fresh(module.num_channels // module.num_groups), module.num_groups)
    if isinstance(module, nn.LayerNorm | nn.RMSNorm) and len(module.normalized_shape) == 1:
        return labels.fresh(module.normalized_shape[0])
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return labels.fresh(module.num_parameters)
    return None


def _label_modules(model: nn.Module, labels: Labels, follower: _Follower) -> tuple[list[Side], dict[str, Array]]:
    """Labels for all parameters and stored buffers: those of known modules by kind, others for each dimension."""
    sides: list[Side] = []
    outputs: dict[str, Array] = {}
    whole: dict[str, str] = {}  # modules that stay as they are, each with the reason
    for name, module in model.named_modules():
        reason = why_computed(module)
        if isinstance(module, torch.jit.ScriptModule):
            reason = "TorchScript has compiled it"
        elif isinstance(module, nn.MultiheadAttention):
            reason = "nn.MultiheadAttention ties the width of its heads to that of a token"
        if reason is not None:
            whole[name] = reason
        above = next((path for path in whole if path in ("", name) or name.startswith(f"{path}.")), None)
        reason = None if above is None else whole[above]
        labelled = _label_module(module, labels) if reason is None else None
        if labelled is not None:
            sides += [
                Side(name=name, handler=handler, labels=side_labels, produces=makes)
                for handler, side_labels, makes in labelled.sides
            ]
        if isinstance(module, ROOTS):
            outputs[name] = labelled.outputs if labelled else labels.fresh(channels_of(module)[1])
            if reason is not None:
                labels.freeze(outputs[name], reason)
        stored = {
            key: buffer for key, buffer in module._buffers.items() if key not in module._non_persistent_buffers_set
        }
        for key, tensor in {**module._parameters, **stored}.items():
            if tensor is None or not (tensor.is_floating_point() or tensor.is_complex()):
                continue
            if labelled is not None and key in labelled.tensors:
                axes = labelled.tensors[key]
            elif isinstance(module, nn.RNNBase) and reason is None:
                axes = {}  # its state
            else:
                axes = {dim: labels.fresh(size) for dim, size in enumerate(tensor.shape)}
                path = f"{name}.{key}".lstrip(".")
                if reason is None:
                    sides += [
                        Side(name=path, handler=None, labels=axis_labels, produces=True, dimension=dim)
                        for dim, axis_labels in axes.items()
                    ]
                else:
                    for axis_labels in axes.values():
                        labels.freeze(axis_labels, f"they meet {above}: {reason}")
            _put_or_join(
                follower,
                labels,
                tensor,
                {dim: axis_labels for dim, axis_labels in axes.items() if len(axis_labels) > 1},
            )
    return sides, outputs


def _put_or_join(follower: _Follower, labels: Labels, tensor: Tensor, axes: Axes) -> None:
    """The labels of a parameter, which may belong to several modules."""
    earlier = follower.axes(tensor)
    for dim, axis_labels in axes.items():
        if dim in earlier:
            labels.join(earlier[dim], axis_labels)
    follower.put(tensor, axes | earlier)


def channels_of(layer: nn.Module) -> tuple[int, int]:
    """Inputs and outputs of one of `ROOTS`."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    assert isinstance(layer, nn.modules.conv._ConvNd), "the other roots are convolutions"
    return layer.in_channels, layer.out_channels


def _fewer_of_root_mean_square(layer: nn.RMSNorm, removed: list[int]) -> None:
    """For a norm that torch-pruning does not know."""
    remaining = np.setdiff1d(np.arange(layer.normalized_shape[0]), removed)
    if layer.weight is not None:
        layer.weight = nn.Parameter(layer.weight.detach()[remaining])
    layer.normalized_shape = (len(remaining),)


def _fewer_inputs(layer: nn.modules.conv._ConvNd, removed: list[int]) -> None:
    """For transposed convolutions with groups, weights (inputs, outputs / groups, ...); torch-pruning cuts others."""
    remaining = np.setdiff1d(np.arange(layer.in_channels), removed)
    layer.weight = nn.Parameter(layer.weight.detach()[remaining])
    layer.in_channels = len(remaining)


def _fewer_outputs(layer: nn.modules.conv._ConvNd, removed: list[int]) -> None:
    """See `_fewer_inputs`."""
    remaining = np.setdiff1d(np.arange(layer.out_channels), removed)
    of_group = remaining[remaining < layer.out_channels // layer.groups]
    layer.weight = nn.Parameter(layer.weight.detach()[:, of_group])
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[remaining])
    layer.out_channels = len(remaining)
