"""Which layers lose channels together, and which of these groups can be cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from nasbench_compression.exclude import excluded
from nasbench_compression.pruning.check import OUTPUT, Probe
from nasbench_compression.pruning.heads import find_heads
from nasbench_compression.pruning.plan import Cut, plan_cuts, restrict
from nasbench_compression.pruning.ties import Tie, units

ROOTS = (nn.modules.conv._ConvNd, nn.Linear)
EXCLUDED = "it is excluded"


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Layers that lose the same output channels.

    Attributes:
        layer: name of the layer from which the group was found.
        members: names of all layers that produce these channels.
        units: channels that can be removed, each a tuple of those that go together: of one channel, except where
            grouped convolutions, shuffles and splits tie some. All are of one length.
        cuts: what goes if all channels go.
        width: channels behind one of `channels`; more than 1 for attention heads only.
        blocks: how many channels of a unit are in one layer.
        parts: groups that shuffles tie together in this one.
        ties: what has to go together, as far as `units` do not say so yet.
    """

    layer: str
    members: tuple[str, ...]
    units: tuple[tuple[int, ...], ...]
    cuts: tuple[Cut, ...] = ()
    width: int = 1
    blocks: int = 1
    parts: tuple[ChannelGroup, ...] = ()
    ties: tuple[Tie, ...] = ()

    @property
    def size(self) -> int:
        """Positions that can be removed one by one; each is so many channels: `share`."""
        return len(self.units)

    @property
    def share(self) -> int:
        """Channels that go with one position."""
        return len(self.units[0]) * self.width

    @property
    def channels(self) -> int:
        """Channels that can be ranked, of all layers that are tied; of heads, for a group of attention heads."""
        return sum(len(unit) for unit in self.units)

    def positions(self, removed: Iterable[int]) -> list[int]:
        """The channels of these units."""
        return sorted(channel for position in removed for channel in self.units[position])

    def without(self, removed: Iterable[int]) -> tuple[Cut, ...]:
        """The cuts that remove these units."""
        return restrict(self.cuts, self.positions(removed))


def find_groups(
    probe: Probe, generator: torch.Generator, *, exclude: Sequence[str] = (), heads: bool = False
) -> tuple[list[ChannelGroup], dict[str, str]]:
    """The groups that can be cut, in the order of their layers, and layers in none, each with the reason.

    Each group is screened: up to half of its channels are removed. A layer stays open for a group of its own as long
    as no sound group holds it, since where the graph is wrong it couples layers that are not. The layer that produces
    the output of the network is in neither result.

    Args:
        probe: of the network.
        generator: decides which are removed.
        exclude: names of modules, or patterns of names; layers in them keep their output channels.
        heads: find groups of attention heads, too.

    Raises:
        UserError: an entry of `exclude` fits no module.
    """
    fixed = excluded("prune", probe.model, exclude)
    order = {name: index for index, (name, _) in enumerate(probe.model.named_modules())}
    groups: list[ChannelGroup] = []
    left_out: dict[str, str] = {}
    tried: set[str] = set()
    attention = find_heads(probe.model)
    pending = [
        ChannelGroup(
            layer=found.values,
            members=found.producers,
            units=tuple((head,) for head in range(found.heads)),
            cuts=found.cuts,
            width=found.head_width,
        )
        for found in attention
        if heads and found.heads > 1
    ]
    for found in attention:
        reason = "it has one attention head" if heads else "its channels are attention heads; set heads to remove some"
        left_out.update(dict.fromkeys(found.producers, reason))
        tried.update(found.producers)
    accepted: list[Cut] = []
    while True:
        covered = {member for group in (*groups, *pending) for member in group.members}
        for layer, module in probe.model.named_modules():
            if not isinstance(module, ROOTS) or layer in covered or layer in tried:
                continue
            tried.add(layer)
            group = _group(probe, layer)
            if isinstance(group, str):
                left_out[layer] = group
                continue
            pending.append(group)
            covered.update(group.members)
        if not pending:
            break
        tried.update(group.layer for group in pending)
        sound = []
        for group in _tied(pending):
            hit = next((member for member in group.members if member in fixed), None)
            if hit is None:
                sound.append(group)
            else:
                left_out[group.layer] = EXCLUDED if hit == group.layer else f"{EXCLUDED}, for {hit} keeps its channels"
        wrong = probe.accept([group.without(_some(group, generator)) for group in sound], accepted)
        for index, group in enumerate(sound):
            if index not in wrong:
                groups.append(group)
            elif wrong[index] != OUTPUT:
                left_out.update(dict.fromkeys((group.layer, *(part.layer for part in group.parts)), wrong[index]))
        pending = [part for index in wrong for part in sound[index].parts]  # perhaps some can be cut on their own
    coupled = {member for group in groups for member in group.members}
    groups.sort(key=lambda group: order[group.layer])
    return groups, {layer: reason for layer, reason in left_out.items() if layer not in coupled}


def _some(group: ChannelGroup, generator: torch.Generator) -> list[int]:
    """Up to half of the positions: not as many of each group, so that groups which only fit together are found out."""
    count = int(torch.randint(1, group.size // 2 + 1, (), generator=generator))
    order: list[int] = torch.randperm(group.size, generator=generator).tolist()
    return order[:count]


def _group(probe: Probe, layer: str) -> ChannelGroup | str:
    """The group of this layer, or why there is none."""
    graph = probe.graph
    root = probe.model.get_submodule(layer)
    if root not in graph.module2node:
        return "it does not run"
    try:
        cuts, ties = plan_cuts(graph, layer)
    except Exception as error:  # the library's own errors on a graph that it got wrong
        return f"torch-pruning fails on it: {type(error).__name__}: {' '.join(str(error).split())}"
    members = [
        cut.name
        for cut in cuts
        if cut.dimension is None and cut.produces and isinstance(probe.model.get_submodule(cut.name), ROOTS)
    ]
    channels = int(graph.get_pruner_of_module(root).get_out_channels(root))
    group = ChannelGroup(
        layer=layer,
        members=tuple(dict.fromkeys(members)),
        units=tuple((channel,) for channel in range(channels)),
        cuts=cuts,
        ties=ties,
    )
    if channels < 2 or _unite([group]) is None:
        return f"its {channels} channels, in parts that must stay equal, leave nothing to choose"
    return group


def _tied(groups: Sequence[ChannelGroup]) -> list[ChannelGroup]:
    """The same channels with those in one unit that must go together, groups joined that a shuffle ties."""
    joined: list[list[ChannelGroup]] = []
    for group in groups:
        operations = {tie.operation for tie in group.ties}
        linked = [other for other in joined if operations & {tie.operation for part in other for tie in part.ties}]
        joined = [other for other in joined if other not in linked]
        joined.append([*(part for other in linked for part in other), group])
    made = []
    for parts in joined:
        united = _unite(parts)
        made += [united] if united is not None else [one for part in parts if (one := _unite([part])) is not None]
    return made


def _unite(parts: Sequence[ChannelGroup]) -> ChannelGroup | None:
    """One group of several; None if it has no two units of one size."""
    ties = [(index, tie) for index, part in enumerate(parts) for tie in part.ties]
    if not ties and len(parts) == 1:
        return parts[0]
    found = units(ties, [part.channels for part in parts])
    if len(found) < 2 or len({len(unit) for unit in found}) > 1:
        return None
    starts = [sum(part.channels for part in parts[:index]) for index in range(len(parts))]
    return replace(
        parts[0],
        members=tuple(dict.fromkeys(member for part in parts for member in part.members)),
        units=tuple(tuple(starts[part] + channel for part, channel in unit) for unit in found),
        cuts=tuple(
            replace(cut, roots=tuple(start + root for root in cut.roots))
            for start, part in zip(starts, parts, strict=True)
            for cut in part.cuts
        ),
        blocks=sum(part == 0 for part, _ in found[0]),
        parts=tuple(parts) if len(parts) > 1 else (),
    )
