"""How channels pass operations that move values: views, parts, copies, sums.

For a shuffle of two groups of six channels, as in ShuffleNet (Zhang et al. 2018, arXiv:1707.01083):

    view (2, 3) -> transpose (3, 2) -> view (6)      a b c | d e f  ->  rows a=d, b=e, c=f  ->  a d b e c f

It means the same without 1 and 4, but not without 1 and 3. So a view that cuts channels into rows and columns keeps
the columns, and joins the channels that are in one of them: they go together or not at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nasbench_compression.pruning.calls import Call, elementwise, join_rows, opaque
from nasbench_compression.pruning.labels import Array, Axes

AVERAGES = ("mean", "var", "std", "var_mean", "std_mean", "median", "nanmean")


def flip(call: Call) -> None:
    """Turned around along some dimensions."""
    tensor, dims = call.tensors[0], call.dims(call.tensors[0], "dims")
    axes = call.axes(tensor).items()
    call.put(call.results[0], {dim: labels[::-1] if dim in dims else labels for dim, labels in axes})


def reduction(call: Call) -> None:
    """Dimensions vanish: sums do not miss a channel that is zero, means and variances do."""
    if len(call.tensors) > 1:  # the larger of two
        elementwise(call)
        return
    tensor = call.tensors[0]
    dims = call.dims(tensor) if "dim" in call.arguments else list(range(tensor.ndim))
    if call.name in AVERAGES:
        call.freeze([tensor], f"{call.phrase} is taken over them", dims)
    for result in call.results:
        keeps = result.ndim == tensor.ndim
        remaining = [dim for dim in range(tensor.ndim) if keeps or dim not in dims]
        axes = call.axes(tensor)
        call.put(result, {remaining.index(dim): axes[dim] for dim in remaining if dim in axes and dim not in dims})


def permute(call: Call) -> None:
    """Dimensions in another order."""
    tensor = call.tensors[0]
    order = list(range(tensor.ndim))
    if call.name == "permute":
        order = call.dims(tensor, "dims")
    elif call.name == "t":
        order.reverse()  # of two
    else:
        (first,), (second,) = call.dims(tensor, "dim0"), call.dims(tensor, "dim1")
        order[first], order[second] = order[second], order[first]
    axes = call.axes(tensor)
    call.put(call.results[0], {new: axes[old] for new, old in enumerate(order) if old in axes})


def reshape(call: Call) -> None:
    """Views: dimensions are put together or cut up, see `_atoms`."""
    tensor, result = call.tensors[0], call.results[0]
    axes = call.axes(tensor)
    atoms = _atoms(tensor.shape, result.shape)
    if atoms is None:
        call.freeze([tensor], "a view puts them together with other dimensions and cuts both anew")
        call.put(result, {})
        return
    carried: dict[int, Array] = {}  # by atom
    for dim, labels in axes.items():
        own_atoms = [index for index, atom in enumerate(atoms) if atom.old == dim]
        table = labels.reshape([atoms[index].size for index in own_atoms])
        varying = [axis for axis in range(len(own_atoms)) if (table != table.take([0], axis)).any()] or [
            len(own_atoms) - 1
        ]
        # Features that become a map are channels first; everywhere else, parts of equal size come first.
        columns = varying[0 if tensor.ndim == 2 and result.ndim > 3 else -1]
        carried[own_atoms[columns]] = join_rows(
            call, np.moveaxis(table, columns, -1).reshape(-1, atoms[own_atoms[columns]].size)
        )
    result_axes: Axes = {}
    for dim in range(result.ndim):
        own_atoms = [index for index, atom in enumerate(atoms) if atom.new == dim]
        bearing = [index for index in own_atoms if index in carried]
        if len(bearing) > 1:
            for index in bearing:
                call.labels.freeze(carried[index], "a view puts several dimensions of channels into one")
        elif bearing:
            (index,) = bearing
            before = int(np.prod([atoms[preceding].size for preceding in own_atoms if preceding < index], initial=1))
            after = int(np.prod([atoms[following].size for following in own_atoms if following > index], initial=1))
            result_axes[dim] = np.tile(np.repeat(carried[index], after), before)
    call.put(result, result_axes)


@dataclass(frozen=True)
class _Atom:
    size: int
    old: int
    new: int


def _atoms(before: Sequence[int], after: Sequence[int]) -> list[_Atom] | None:
    """The factors of two shapes of one size such that each dimension of both is a run of them; None if there are none.

    (2, 24, 6, 6) and (2, 2, 12, 36) have the factors 2, 2, 12, 6, 6: the second dimension is cut into 2 and 12, and the
    last two are put together.
    """
    if 0 in before:
        return None
    ends = [list(itertools.accumulate(shape, lambda size, dim: size * dim)) for shape in (before, after)]
    bounds = sorted({1, *ends[0], *ends[1]})
    if any(upper % lower for lower, upper in itertools.pairwise(bounds)):
        return None
    return [
        _Atom(upper // lower, *(next(dim for dim, end in enumerate(of) if end >= upper) for of in ends))
        for lower, upper in itertools.pairwise(bounds)
    ]


def expand(call: Call) -> None:
    """Single positions are repeated, as often as the code says: what is read there may follow the channels."""
    tensor, result = call.tensors[0], call.results[0]
    axes = call.axes(tensor)
    result_axes: Axes = {}
    for dim, size in enumerate(result.shape):
        tensor_dim = dim - result.ndim + tensor.ndim
        if tensor_dim in axes and len(axes[tensor_dim]) == size:
            result_axes[dim] = axes[tensor_dim]
        elif size > 1 and (tensor_dim < 0 or tensor.shape[tensor_dim] == 1):
            result_axes[dim] = call.labels.fresh(size)
    call.put(result, result_axes)


def repeat(call: Call) -> None:
    """The whole tensor several times, one after the other."""
    tensor, result = call.tensors[0], call.results[0]
    shift = result.ndim - tensor.ndim
    result_axes = {}
    for dim, labels in call.axes(tensor).items():
        result_axes[dim + shift] = np.tile(labels, result.shape[dim + shift] // len(labels))
    call.put(result, result_axes)


def factory(call: Call) -> None:
    """A tensor of constants, as large as the code says: perhaps as there are channels."""
    for result in call.results:
        call.put(result, {dim: call.labels.fresh(size) for dim, size in enumerate(result.shape) if size > 1})


def concatenation(call: Call) -> None:
    """One after the other along a dimension; other dimensions are shared."""
    tensors, result = [tensor for tensor in call.tensors if tensor.numel()], call.results[0]
    (joined,) = call.dims(result)
    axes: Axes = {}
    for dim in range(result.ndim):
        parts = [call.axes(tensor).get(dim) for tensor in tensors]
        if all(part is None for part in parts):
            continue
        if dim != joined:
            shared = call.combine(parts)
        else:
            whole = []
            for tensor, part in zip(tensors, parts, strict=True):
                whole.append(call.labels.fresh(tensor.shape[dim]) if part is None else part)
                if part is None:
                    call.labels.freeze(whole[-1], "they are no channels of a layer")
            shared = np.concatenate(whole)
        if shared is not None:
            axes[dim] = shared
    call.put(result, axes)


def stack(call: Call) -> None:
    """One after the other along a new dimension."""
    (new,) = call.dims(call.results[0])
    axes: Axes = {}
    for dim in range(call.tensors[0].ndim):
        parts = [call.axes(tensor).get(dim) for tensor in call.tensors]
        shared = call.combine(parts) if any(part is not None for part in parts) else None
        if shared is not None:
            axes[dim + (dim >= new)] = shared
    call.put(call.results[0], axes)


def split(call: Call) -> None:
    """Parts along a dimension; what is at the same place of equal parts goes together, for they have to stay equal."""
    tensor = call.tensors[0]
    (dim,) = call.dims(tensor)
    axes, start = call.axes(tensor), 0
    equal = len({result.shape[dim] for result in call.results}) == 1
    for result in call.results:
        result_axes = dict(axes)
        if dim in axes:
            result_axes[dim] = axes[dim][start : start + result.shape[dim]]
            if equal:
                call.labels.join(axes[dim][: result.shape[dim]], result_axes[dim])
        start += result.shape[dim]
        call.put(result, result_axes)


def unbind(call: Call) -> None:
    """Each position of a dimension by itself."""
    tensor = call.tensors[0]
    (dim,) = call.dims(tensor)
    call.freeze([tensor], "the code takes single ones of them", [dim])
    for result in call.results:
        call.put(result, _without(call.axes(tensor), dim))


def select(call: Call) -> None:
    """One position of a dimension, by its number from the front or from the back."""
    tensor, index = call.tensors[0], call.arguments["index"]
    (dim,) = call.dims(tensor)
    labels = call.axes(tensor).get(dim)
    if labels is not None:
        counted = labels[: index + 1] if index >= 0 else labels[index:]
        call.labels.freeze(counted, f"the code takes number {index} of them")
    call.put(call.results[0], _without(call.axes(tensor), dim))


def slicing(call: Call) -> None:
    """Positions from a start to an end: constants in the code, except for halves, which are computed more often."""
    tensor, result = call.tensors[0], call.results[0]
    (dim,) = call.dims(tensor)
    axes = dict(call.axes(tensor))
    labels = axes.get(dim)
    if labels is not None:
        size, step = len(labels), call.arguments.get("step", 1)
        start, end = (call.arguments.get(name) for name in ("start", "end"))
        start, end = (0 if start is None else start), (size if end is None else min(end, size))
        first, last, _ = slice(start, end).indices(size)
        axes[dim] = labels[first:last:step]
        if step != 1:
            call.labels.freeze(labels[first:], f"the code takes one in {step} of them")
        elif size % 2 == 0 and {first, last} <= {0, size // 2, size}:
            call.labels.join(labels[: size // 2], labels[size // 2 :])
        else:
            text = f"the code takes those from {first or 'the first'} to {'the last' if last == size else last}"
            for bound in (start, end):
                # What lies between a bound and the side from which it is counted has to keep its number.
                if bound < 0:
                    call.labels.freeze(labels[bound:], text)
                elif 0 < bound < size:
                    call.labels.freeze(labels[:bound], text)
    if len(axes.get(dim, ())) < 2:
        axes.pop(dim, None)
    call.put(result, axes)


def indexing(call: Call) -> None:
    """Positions of a dimension that a tensor of numbers names."""
    tensor, result = call.tensors[0], call.results[0]
    if call.name == "index_select":
        (dim,), number = call.dims(tensor), call.arguments["index"]
    else:
        named = [(dim, index) for dim, index in enumerate(call.arguments["indices"]) if index is not None]
        dim, number = named[0] if len(named) == 1 else (-1, None)
        if number is None or number.dtype == torch.bool or number.ndim != 1:
            opaque(call)
            return
    axes = dict(call.axes(tensor))
    if dim in axes:
        call.labels.freeze(axes[dim], "the code takes them by number")
        axes[dim] = axes[dim][number.cpu().numpy()]
    call.put(result, {dim: labels for dim, labels in axes.items() if len(labels) > 1})


def padding(call: Call) -> None:
    """Constants before and after; along a dimension of channels, they stay."""
    tensor, result, sizes = call.tensors[0], call.results[0], call.arguments["pad"]
    axes = dict(call.axes(tensor))
    for dim, labels in axes.items():
        position = 2 * (tensor.ndim - 1 - dim)
        before, after = (*sizes[position : position + 2], 0, 0)[:2]
        if min(before, after) < 0:
            opaque(call)
            return
        sides = [call.labels.fresh(before), call.labels.fresh(after)]
        for side in sides:
            call.labels.freeze(side, "they are padding")
        if before or after:
            axes[dim] = np.concatenate([sides[0], labels, sides[1]])
    call.put(result, axes)


def windows(call: Call) -> None:
    """Pieces along a dimension, whose places become a last dimension."""
    tensor = call.tensors[0]
    (dim,) = call.dims(tensor, "dimension" if "dimension" in call.arguments else "dim")
    call.freeze([tensor], "a window runs over them", [dim])
    call.put(
        call.results[0], {remaining: labels for remaining, labels in call.axes(tensor).items() if remaining != dim}
    )


def trailing(call: Call) -> None:
    """A further dimension at the end, or one less, for the parts of a complex number."""
    call.freeze([call.tensors[0]], "they are parts of a complex number", range(call.results[0].ndim, 9))
    axes = call.axes(call.tensors[0]).items()
    call.put(call.results[0], {dim: labels for dim, labels in axes if dim < call.results[0].ndim})


def channel_shuffle(call: Call) -> None:
    """The shuffle of ShuffleNet as one operation."""
    tensor = call.tensors[0]
    axes = dict(call.axes(tensor))
    if 1 in axes:
        rows = axes[1].reshape(call.arguments["groups"], -1)
        for row in rows[1:]:
            call.labels.join(rows[0], row)
        axes[1] = rows.T.reshape(-1)
    call.put(call.results[0], axes)


def pixel_shuffle(call: Call) -> None:
    """Blocks of channels become one channel of a larger map, or the other way round."""
    tensor = call.tensors[0]
    labels = call.axes(tensor).get(tensor.ndim - 3)
    result_axes: Axes = {}
    if labels is not None:
        factor = int(call.arguments.get("upscale_factor") or call.arguments["downscale_factor"]) ** 2
        if call.name == "pixel_unshuffle":
            result_axes = {tensor.ndim - 3: np.repeat(labels, factor)}
        else:
            result_axes = {tensor.ndim - 3: join_rows(call, labels.reshape(-1, factor).T)}
    call.put(call.results[0], result_axes)


def patches(call: Call) -> None:
    """Unfold and fold: a channel is as many rows as a kernel has places."""
    tensor, result = call.tensors[0], call.results[0]
    labels = call.axes(tensor).get(1)
    result_axes: Axes = {}
    if labels is not None:
        places = int(np.prod(call.arguments["kernel_size"]))
        result_axes = {
            1: np.repeat(labels, places) if call.name == "im2col" else join_rows(call, labels.reshape(-1, places).T)
        }
    call.put(result, result_axes)


def _without(axes: Axes, gone: int) -> Axes:
    return {dim - (dim > gone): labels for dim, labels in axes.items() if dim != gone}
