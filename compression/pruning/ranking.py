"""Which channels go: groups of coupled layers, how important each channel is, how many are removed."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import Tensor, nn

from compression.pruning.check import OUTPUT, Probe
from compression.pruning.plan import trace

_NORMS = {"l1": 1, "l2": 2}
IMPORTANCES = (*_NORMS, "random")
_ROOTS = (nn.modules.conv._ConvNd, nn.Linear)
_GLOBAL_FLOOR = 10  # a global ranking leaves each layer at least one channel in this many


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Layers that lose the same output channels.

    Attributes:
        layer: name of the layer from which the group was found.
        members: names of all layers that produce these channels.
        channels: number of output channels of `layer`.
        blocks: equal parts of the channels which must lose the same positions, because of grouped convolutions.
        scores: importance of each position, (channels // blocks,).
    """

    layer: str
    members: tuple[str, ...]
    channels: int
    blocks: int
    scores: Tensor

    def positions(self, removed: Sequence[int]) -> list[int]:
        """Output channels of `layer` behind positions in a block."""
        size = self.channels // self.blocks
        return sorted(block * size + position for block in range(self.blocks) for position in removed)


def find_groups(
    model: nn.Module, example_inputs: Tensor, importance: str, generator: torch.Generator
) -> tuple[list[ChannelGroup], dict[str, str]]:
    """The groups that can be cut, in the order of their layers, and layers in none, each with the reason.

    Each group is screened: half of its channels are removed from a fresh `Probe`. A layer stays open for a group of
    its own as long as no sound group holds it, since where the graph is wrong it couples layers that are not.
    The layer that produces the output of the network is in neither result.
    """
    copied = copy.deepcopy(model).cpu()
    graph = trace(copied, example_inputs[:2].detach().cpu())
    probe = Probe(model, example_inputs, generator)
    groups: list[ChannelGroup] = []
    left_out: dict[str, str] = {}
    for layer, module in copied.named_modules():
        if not isinstance(module, _ROOTS) or any(layer in group.members for group in groups):
            continue
        if module not in graph.module2node:
            left_out[layer] = "it does not run"
            continue
        try:
            group = _group(graph, layer, importance, generator)
        except Exception as error:  # the library's own errors on a graph that it got wrong
            left_out[layer] = f"torch-pruning fails on it: {type(error).__name__}: {' '.join(str(error).split())}"
            continue
        if len(group.scores) * group.blocks != group.channels or len(group.scores) < 2:
            left_out[layer] = f"its {group.channels} channels in {group.blocks} equal blocks leave nothing to choose"
            continue
        half = torch.argsort(group.scores, stable=True)[: len(group.scores) // 2]
        found = probe.try_cut(layer, group.positions(half.tolist()), keep=False)
        if found == OUTPUT:
            continue
        if isinstance(found, str):
            left_out[layer] = found
        else:
            groups.append(group)
    coupled = {member for group in groups for member in group.members}
    return groups, {layer: reason for layer, reason in left_out.items() if layer not in coupled}


def _group(graph: tp.DependencyGraph, layer: str, importance: str, generator: torch.Generator) -> ChannelGroup:
    root = graph.model.get_submodule(layer)
    pruner = graph.get_pruner_of_module(root)
    channels = int(pruner.get_out_channels(root))
    found = graph.get_pruning_group(root, pruner.prune_out_channels, list(range(channels)))
    names = {module: name for name, module in graph.model.named_modules()}
    members, blocks = [], 1
    for dependency, _ in found:
        module = dependency.target.module
        if isinstance(module, _ROOTS) and graph.is_out_channel_pruning_fn(dependency.handler):
            members.append(names[module])
        if isinstance(module, nn.modules.conv._ConvNd) and module.groups not in (1, module.out_channels):
            blocks = math.lcm(blocks, module.groups)
    if importance in _NORMS:
        norm = tp.importance.GroupMagnitudeImportance(p=_NORMS[importance], normalizer=None)
        scores = torch.nan_to_num(norm(found).detach().double())
    else:
        scores = torch.rand(channels, generator=generator, dtype=torch.float64)
    size = channels // blocks
    return ChannelGroup(
        layer=layer,
        members=tuple(dict.fromkeys(members)),
        channels=channels,
        blocks=blocks,
        scores=scores[: size * blocks].view(blocks, size).mean(0),
    )


def choose(
    groups: Sequence[ChannelGroup], ratio: float, round_to: int | None, *, global_ranking: bool
) -> list[list[int]]:
    """Positions to remove from each group, least important first; an empty list where rounding leaves none."""
    wanted = _count_globally(groups, ratio) if global_ranking else [round(len(g.scores) * ratio) for g in groups]
    chosen = []
    for group, count in zip(groups, wanted, strict=True):
        size = len(group.scores)
        kept = max(1, size - count)
        if round_to is not None:
            # The whole layer is rounded, and blocks stay equal: both divide what is kept.
            unit = math.lcm(round_to, group.blocks) // group.blocks
            kept = max(1, math.floor(kept / unit + 0.5)) * unit
        order = torch.argsort(group.scores, stable=True)
        chosen.append(sorted(order[: max(0, size - kept)].tolist()))
    return chosen


def _count_globally(groups: Sequence[ChannelGroup], ratio: float) -> list[int]:
    """Number of positions each group loses if all compete, each group's scores taken relative to their mean."""
    entries = []
    for index, group in enumerate(groups):
        relative = group.scores / group.scores.mean().clamp(min=1e-12)
        entries += [(score, index) for score in relative.tolist()]
    room = [len(group.scores) - max(1, math.ceil(len(group.scores) / _GLOBAL_FLOOR)) for group in groups]
    counts, left = [0] * len(groups), round(len(entries) * ratio)
    for _, index in sorted(entries):
        if left == 0:
            break
        if counts[index] < room[index]:
            counts[index] += 1
            left -= 1
    return counts
