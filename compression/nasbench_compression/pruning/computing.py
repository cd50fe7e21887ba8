"""How channels pass operations that compute with weights, or that a layer of torch consists of."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nasbench_compression.pruning.calls import Call, join_rows, share
from nasbench_compression.pruning.labels import Array, Axes

_HIDDEN = "they are the state of a recurrent layer"


def gated(call: Call) -> None:
    """One half of the channels scales the other."""
    tensor = call.tensors[0]
    (dim,) = call.dims(tensor)
    axes = dict(call.axes(tensor))
    if dim in axes:
        axes[dim] = join_rows(call, axes[dim].reshape(2, -1))
    call.put(call.results[0], axes)


def embedding(call: Call) -> None:
    """Rows of a table by number."""
    table, result = call.arguments["weight"], call.results[0]
    call.freeze([table], "they are rows of a table that are taken by number", [0])
    axes = call.axes(table)
    call.put(result, {result.ndim - 1: axes[1]} if 1 in axes else {})


def linear(call: Call) -> None:
    """Inputs (..., i), weight (o, i): (..., o)."""
    inputs, weight, bias = call.tensors[0], call.arguments["weight"], call.tensor("bias")
    of_inputs, of_weight = call.axes(inputs), call.axes(weight)
    share(call, inputs, inputs.ndim - 1, weight, 1)
    result_axes = {dim: labels for dim, labels in of_inputs.items() if dim < inputs.ndim - 1}
    _add_outputs(call, result_axes, call.results[0].ndim - 1, of_weight.get(0), bias)


def product(call: Call) -> None:
    """Products of matrices (..., a, b) and (..., b, c), with something that is added to them or without."""
    first, second = call.tensors[-2:]
    result = call.results[0]
    rows, columns = call.axes(first), call.axes(second)
    if second.ndim == 1:
        share(call, first, first.ndim - 1, second, 0)
        call.put(result, {dim: labels for dim, labels in rows.items() if dim < first.ndim - 1})
        return
    share(call, first, first.ndim - 1, second, second.ndim - 2)
    result_axes = {dim: labels for dim, labels in rows.items() if dim < first.ndim - 1}
    if second.ndim - 1 in columns:
        result_axes[result.ndim - 1] = columns[second.ndim - 1]
    if first.ndim == 3:
        result_axes.pop(0, None)
        batch = call.combine([rows.get(0), columns.get(0)]) if 0 in rows or 0 in columns else None
        result_axes |= {} if batch is None else {0: batch}
    if len(call.tensors) == 3:  # addmm, baddbmm
        added = call.tensors[0]
        for dim in range(result.ndim):
            added_dim = dim - result.ndim + added.ndim
            if added_dim >= 0 and added.shape[added_dim] == result.shape[dim] > 1:
                shared = call.combine([result_axes.get(dim), call.axes(added).get(added_dim)])
                result_axes.pop(dim, None)
                result_axes |= {} if shared is None else {dim: shared}
    call.put(result, result_axes)


def attention(call: Call) -> None:
    """Queries (..., l, e), keys (..., s, e), values (..., s, v): (..., l, v)."""
    query, key, value = (call.arguments[name] for name in ("query", "key", "value"))
    last = query.ndim - 1
    share(call, query, last, key, last)
    share(call, key, last - 1, value, last - 1)
    result_axes: Axes = {}
    for dim in range(last - 1):
        parts = [call.axes(tensor).get(dim) for tensor in (query, key, value) if tensor.shape[dim] > 1]
        shared = call.combine(parts) if any(part is not None for part in parts) else None
        result_axes |= {} if shared is None else {dim: shared}
    of_query, of_value = call.axes(query), call.axes(value)
    result_axes |= {last - 1: of_query[last - 1]} if last - 1 in of_query else {}
    result_axes |= {last: of_value[last]} if last in of_value else {}
    call.put(call.results[0], result_axes)


def convolution(call: Call) -> None:
    """Weights (o, i / groups, ...), or (i, o / groups, ...) if transposed; channels of maps are before the places."""
    inputs, weight, bias = call.tensor("input", "self"), call.arguments["weight"], call.tensor("bias")
    assert inputs is not None, "a convolution has inputs"
    groups, result = int(call.arguments.get("groups", 1)), call.results[0]
    transposed = bool(call.arguments.get("transposed", "transpose" in call.name))
    channels = inputs.ndim - (weight.ndim - 1)
    call.freeze([inputs], "a convolution runs over them", range(channels + 1, inputs.ndim))
    of_inputs, of_weight = call.axes(inputs), call.axes(weight)
    call.freeze([weight], "they are places of a kernel", range(2, weight.ndim))
    result_axes = {dim: labels for dim, labels in of_inputs.items() if dim < channels}
    input_labels, first_labels, second_labels = of_inputs.get(channels), of_weight.get(0), of_weight.get(1)
    if groups > 1 and weight.shape[1] == 1 and weight.shape[0] != groups:
        call.freeze([inputs, weight], "a convolution makes several channels of each of them alone", [channels, 0])
        call.put(result, result_axes)
        return
    if groups > 1 and weight.shape[1] == 1 and weight.shape[0] == groups:  # depthwise, transposed or not
        shared = (
            call.combine([input_labels, first_labels]) if input_labels is not None or first_labels is not None else None
        )
        _add_outputs(call, result_axes, channels, shared, bias)
        return
    if transposed:
        share(call, inputs, channels, weight, 0)
        outputs = None if second_labels is None else np.tile(second_labels, groups)
        if first_labels is not None and groups > 1:
            join_rows(call, first_labels.reshape(groups, -1))
        _add_outputs(call, result_axes, channels, outputs, bias)
        return
    if groups > 1:
        of_group = np.tile(second_labels, groups) if second_labels is not None else None
        if input_labels is not None or second_labels is not None:
            call.combine([input_labels, of_group])
        if first_labels is not None:
            join_rows(call, first_labels.reshape(groups, -1))
    else:
        share(call, inputs, channels, weight, 1)
    _add_outputs(call, result_axes, channels, first_labels, bias)


def channelwise(call: Call) -> None:
    """Norms and activations with a value for each channel of (n, channels, ...)."""
    inputs, *parameters = call.tensors
    axes = dict(call.axes(inputs))
    channel = 1 if inputs.ndim > 1 else 0
    parts = [axes.get(channel), *(call.axes(parameter).get(0) for parameter in parameters if parameter.numel() > 1)]
    shared = call.combine(parts) if any(part is not None for part in parts) else None
    axes.pop(channel, None)
    if call.name != "prelu" and (call.arguments.get("training") or call.tensor("running_var") is None):
        call.freeze([inputs], f"{call.phrase} takes a mean over them", [dim for dim in axes if dim > channel])
    if shared is not None:
        axes[channel] = shared
        groups = call.arguments.get("num_groups", call.arguments.get("group", 1))
        if groups > 1:
            join_rows(call, shared.reshape(groups, -1))
    call.put(call.results[0], axes)


def layer_norm(call: Call) -> None:
    """A norm over the last dimensions."""
    if len(call.arguments["normalized_shape"]) > 1:
        dims = range(call.tensors[0].ndim - len(call.arguments["normalized_shape"]), call.tensors[0].ndim)
        call.freeze(call.tensors, "a norm is taken over them together with other dimensions", dims)
    inputs, *parameters = call.tensors
    axes = dict(call.axes(inputs))
    parts = [
        axes.pop(inputs.ndim - 1, None),
        *(call.axes(parameter).get(parameter.ndim - 1) for parameter in parameters),
    ]
    shared = call.combine(parts) if any(part is not None for part in parts) else None
    axes |= {} if shared is None else {inputs.ndim - 1: shared}
    call.put(call.results[0], axes)


def recurrent(call: Call) -> None:
    """LSTM, GRU and plain recurrent layers: what they read may shrink, what they keep stays."""
    inputs, weights = call.tensors[0], call.arguments.get("params", call.tensors[1:])
    first = next(weight for weight in weights if weight.ndim == 2 and weight.shape[1] == inputs.shape[-1])
    share(call, inputs, inputs.ndim - 1, first, 1)
    call.freeze([inputs], "a recurrent layer runs over them", range(inputs.ndim - 1))
    call.freeze([leaf for leaf in tree_leaves(call.arguments.get("hx")) if isinstance(leaf, Tensor)], _HIDDEN)
    for result in call.results:
        call.put(result, {})


def sampling(call: Call) -> None:
    """Maps (n, channels, ...) read at other places."""
    call.freeze(call.tensors[:1], f"{call.phrase} runs over them", range(2, 9))
    call.freeze(call.tensors[1:], "they are places in a map")
    call.put(call.results[0], {dim: labels for dim, labels in call.axes(call.tensors[0]).items() if dim < 2})


def sequences(call: Call) -> None:
    """Rows of sequences of several lengths, with the channels in the last dimension, packed or padded."""
    tensor, result = call.tensors[0], call.results[0]
    call.freeze([tensor], f"{call.phrase} runs over them", range(tensor.ndim - 1))
    labels = call.axes(tensor).get(tensor.ndim - 1)
    call.put(result, {} if labels is None else {result.ndim - 1: labels})


def _add_outputs(call: Call, axes: Axes, dim: int, outputs: Array | None, bias: Tensor | None) -> None:
    """Put the labels of a result whose channels are in a dimension, after joining them with those of the bias."""
    if bias is not None:
        of_bias = call.axes(bias).get(0)
        outputs = call.combine([outputs, of_bias]) if outputs is not None or of_bias is not None else None
    call.put(call.results[0], axes | ({} if outputs is None else {dim: outputs}))
