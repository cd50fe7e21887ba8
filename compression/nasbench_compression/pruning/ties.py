"""Channels that must go together because an operation cuts its input into equal parts: shuffles, splits, groups.

A shuffle of two groups, as in ShuffleNet (Zhang et al. 2018, arXiv:1707.01083), of 6 channels:

    view (2, 3) -> transpose -> (3, 2)      0 1 2 | 3 4 5  ->  0 3 | 1 4 | 2 5

It means the same without 1 and 4, but not without 1 and 3: what is left is then viewed as other rows. Channels 1 and 4
are tied. So are the first channels of the parts of a split, and those of the groups of a convolution.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch_pruning as tp
from torch import nn
from torch_pruning import ops
from torch_pruning._helpers import _HybridIndex
from torch_pruning.dependency.index_mapping import _ConcatIndexMapping, update_index_mapping


@dataclass(frozen=True, kw_only=True)
class Tie:
    """Positions of one operation that channels of a group pass.

    Attributes:
        operation: the same for the same operation, in whatever group.
        period: positions that differ by a multiple of it go together.
        positions: that the group passes.
        roots: the channel of the group behind each.
    """

    operation: tuple[int, str]
    period: int
    positions: tuple[int, ...]
    roots: tuple[int, ...]


class Graph(tp.DependencyGraph):  # type: ignore[misc]  # the library has no types
    """Torch-pruning's graph, which knows what shuffles do to the order of channels, and how large parts of a split are.

    The library takes a transposition for an element-wise operation, and with this version of torch it has to guess the
    sizes of parts and takes them in the order in which it meets them. Without shuffles, nothing is changed.
    """

    def _build_dependency(self, module2node: dict[Any, Any]) -> None:
        super()._build_dependency(module2node)
        for node in module2node.values():
            if _shuffle(node) is not None:
                # Not reshapes that flatten anything, which the library would conclude from the sizes that it guesses.
                for view in (*node.inputs, _reader(node)):
                    view.type = ops.OPTYPE.ELEMENTWISE

    def build_dependency(self, *arguments: Any, **options: Any) -> tp.DependencyGraph:
        """As in the library."""
        super().build_dependency(*arguments, **options)
        _repair(self)
        return self


def _repair(graph: tp.DependencyGraph) -> None:
    nodes = list(graph.module2node.values())
    shuffles = {node: found for node in nodes if (found := _shuffle(node)) is not None}
    if not shuffles:
        return
    for node in nodes:
        parts = _parts(node)
        if parts is not None:
            node.module.split_sizes = parts
            node.module.offsets = [sum(parts[:index]) for index in range(len(parts) + 1)]
            node.outputs.sort(key=functools.partial(_first_part, node))
        elif node.type == ops.OPTYPE.CONCAT:
            node.module.concat_sizes = None  # a guess that may rest on wrong sizes of parts
    for node in nodes:
        for dependency in node.dependencies:
            dependency.index_mapping = [None, None]
    update_index_mapping(graph)
    for node in nodes:
        # Where the library finds fault with sizes that it guesses further down; the others it has mapped as here.
        sizes = getattr(node.module, "concat_sizes", None) if node.type == ops.OPTYPE.CONCAT else None
        if sizes and None not in sizes and node.module.offsets is None and node.enable_index_mapping:
            _map_parts(node, [sum(sizes[:index]) for index in range(len(sizes) + 1)])
    for node, (rows, columns) in shuffles.items():
        reader = node.outputs[0]
        for dependency in node.dependencies:
            if dependency.target is reader:
                dependency.index_mapping[0] = _Transposed(rows, columns)
        for dependency in reader.dependencies:
            if dependency.target is node:
                dependency.index_mapping[0] = _Transposed(columns, rows)


def _map_parts(concatenation: Any, offsets: Sequence[int]) -> None:
    for index, source in enumerate(concatenation.inputs):
        part = offsets[index : index + 2]
        for dependency in concatenation.dependencies:
            if dependency.target is source:
                dependency.index_mapping[1] = _ConcatIndexMapping(offset=part, reverse=True)
        for dependency in source.dependencies:
            if dependency.target is concatenation:
                dependency.index_mapping[1] = _ConcatIndexMapping(offset=part, reverse=False)


def find_ties(graph: tp.DependencyGraph, group: Any) -> tuple[Tie, ...]:
    """The ties in a group of torch-pruning's."""
    made = []
    for item in group:
        node, period = item.dep.target, None
        module, shuffle, parts = node.module, _shuffle(node), _parts(node)
        if shuffle is not None:
            period = shuffle[1]
        elif parts is not None and len(set(parts)) == 1:
            period = parts[0]
        elif isinstance(module, nn.GroupNorm):
            period = module.num_channels // module.num_groups
        elif isinstance(module, nn.modules.conv._ConvNd) and module.groups not in (1, module.out_channels):
            reads = graph.is_in_channel_pruning_fn(item.dep.handler)
            period = (module.in_channels if reads else module.out_channels) // module.groups
        if period is not None:
            made.append(
                Tie(
                    operation=(id(node), str(item.dep.handler)),
                    period=period,
                    positions=tuple(item.idxs),
                    roots=tuple(item.root_idxs),
                )
            )
    return tuple(made)


def units(ties: Sequence[tuple[int, Tie]], sizes: Sequence[int]) -> list[list[tuple[int, int]]]:
    """What goes as one, of the channels of several groups: lists of (group, channel), by their smallest ones.

    Args:
        ties: each with the index of its group.
        sizes: number of channels of each group.
    """
    owner = {(group, channel): (group, channel) for group, size in enumerate(sizes) for channel in range(size)}

    def find(element: tuple[int, int]) -> tuple[int, int]:
        while owner[element] != element:
            owner[element] = owner[owner[element]]
            element = owner[element]
        return element

    first: dict[tuple[object, int], tuple[int, int]] = {}
    for group, tie in ties:
        for position, root in zip(tie.positions, tie.roots, strict=True):
            element, place = (group, root), (tie.operation, position % tie.period)
            one, other = sorted((find(element), find(first.setdefault(place, element))))
            owner[other] = one
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for element in owner:
        found.setdefault(find(element), []).append(element)
    return [found[key] for key in sorted(found)]


def _shuffle(node: Any) -> tuple[int, int] | None:
    """(rows, columns) before the transposition, if this is the one of a shuffle."""
    function = node.grad_fn
    swapped = {getattr(function, "_saved_dim0", None), getattr(function, "_saved_dim1", None)}
    permuted = tuple(getattr(function, "_saved_dims", ()))
    if node.type != ops.OPTYPE.ELEMENTWISE or (swapped != {1, 2} and permuted != (0, 2, 1, 3, 4)):
        return None
    reader = _reader(node)
    shape: tuple[int, ...] = getattr(reader.grad_fn, "_saved_self_sym_sizes", ())
    return (int(shape[2]), int(shape[1])) if "View" in reader.grad_fn.name() and len(shape) == 5 else None


def _reader(node: Any) -> Any:
    """What reads the result of a transposition, behind the copy that is often between the two."""
    reader = node
    while reader is node or "Clone" in reader.grad_fn.name():
        if len(reader.outputs) != 1:
            break
        reader = reader.outputs[0]
    return reader


def _parts(node: Any) -> list[int] | None:
    """Sizes of the parts of a split of channels."""
    function = node.grad_fn
    if node.type != ops.OPTYPE.SPLIT or getattr(function, "_saved_dim", None) != 1:
        return None
    shape = getattr(function, "_saved_self_sym_sizes", None)
    if hasattr(function, "_saved_split_sizes"):
        return [int(size) for size in function._saved_split_sizes]
    size = getattr(function, "_saved_split_size", None)
    if shape is None or size is None or shape[1] % size:
        return None
    return [int(size)] * (int(shape[1]) // int(size))


def _first_part(split: Any, reader: Any) -> int:
    """Which part of a split an operation reads."""
    read = [part for function, part in reader.grad_fn.next_functions if function is split.grad_fn]
    return min(read, default=0)


@dataclass(frozen=True)
class _Transposed:
    """Where positions of a (rows, columns) matrix are after its transposition."""

    rows: int
    columns: int

    def __call__(self, positions: Sequence[Any]) -> list[Any]:
        return [
            _HybridIndex(
                idx=position.idx % self.columns * self.rows + position.idx // self.columns, root_idx=position.root_idx
            )
            for position in positions
        ]
