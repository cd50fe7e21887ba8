"""Which layers lose channels together, and which of these groups can be cut."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nasbench_compression.exclude import excluded
from nasbench_compression.pruning.check import Probe
from nasbench_compression.pruning.coupling import OUTPUT, Coupling
from nasbench_compression.pruning.heads import Heads, find_heads
from nasbench_compression.pruning.plan import Cut, restrict

EXCLUDED = "it is excluded"


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Channels of one layer, and of others that lose the same ones.

    Attributes:
        layer: Name of the layer whose channels these are.
        members: Names of all layers that produce these channels.
        size: Number of units, each of which can be removed alone. A unit is one channel of the layer, except where
            grouped convolutions, shuffles and splits let several go together.
        blocks: Channels of the layer in one unit; all units have the same number.
        cuts: Cuts that remove all units; the roots of their positions are units.
        width: Channels that one of the `blocks` stands for; more than 1 for attention heads only.
    """

    layer: str
    members: tuple[str, ...]
    size: int
    blocks: int = 1
    cuts: tuple[Cut, ...] = ()
    width: int = 1

    @property
    def share(self) -> int:
        """Channels that go with one unit."""
        return self.blocks * self.width

    @functools.cached_property
    def parts(self) -> tuple[frozenset[int], ...]:
        """Sets of units of which one has to stay each: those of each module or tensor, where it has not all of them."""
        parts = {frozenset(cut.roots) for cut in self.cuts}
        return tuple(sorted((part for part in parts if len(part) < self.size), key=sorted))

    def least(self, scores: Tensor, count: int) -> list[int]:
        """So many units, the least important ones; fewer if nothing would be left of one of the `parts`.

        Args:
            scores: Importance of the units, (size,).
            count: Number of units to be removed.
        """
        order = torch.argsort(scores, stable=True).tolist()
        spared: set[int] = set()
        while True:
            removed = [unit for unit in order if unit not in spared][:count]
            gone = set(removed)
            empty = [part for part in self.parts if part <= gone]
            if not empty:
                return sorted(removed)
            spared.add(max(empty[0], key=order.index))

    def without(self, removed: Iterable[int]) -> tuple[Cut, ...]:
        """The cuts that remove these units."""
        return restrict(self.cuts, list(removed))


def find_groups(
    probe: Probe, generator: torch.Generator, *, exclude: Sequence[str] = (), heads: bool = False
) -> tuple[list[ChannelGroup], dict[str, str]]:
    """The groups that can be cut, in the order of their layers, and layers in none, each with the reason.

    Each group is screened once: up to half of its channels are removed. The layer that produces the output of the
    network is in neither result.

    Args:
        probe: Copy of the network on which cuts are tried.
        generator: Random generator that decides which channels are removed.
        exclude: Names of modules, or patterns of names; layers in them keep their output channels.
        heads: Whether groups of attention heads are found, too.

    Raises:
        UserError: An entry of `exclude` fits no module.
    """
    fixed = excluded("prune", probe.model, exclude)
    attention = find_heads(probe.model)
    groups = [_group_of_heads(module_heads) for module_heads in attention if heads and module_heads.heads > 1]
    left_out: dict[str, str] = {}
    for module_heads in attention:
        reason = "it has one attention head" if heads else "its channels are attention heads; set heads to remove some"
        left_out.update(dict.fromkeys(module_heads.producers, reason))
    coupled, reasons = _groups(probe.coupling, set(left_out))
    left_out |= reasons
    sound = []
    for group in (*groups, *coupled):
        hit = next((member for member in group.members if member in fixed), None)
        if hit is None:
            sound.append(group)
        else:
            reasons = dict.fromkeys(group.members, f"{EXCLUDED}, for {hit} keeps its channels")
            left_out |= reasons | {member: EXCLUDED for member in group.members if member in fixed}
    wrong = probe.accept([group.without(_some(group, generator)) for group in sound], [])
    for index, reason in wrong.items():
        left_out |= _for_members(sound[index].members, sound[index].layer, reason)
    groups = [group for index, group in enumerate(sound) if index not in wrong]
    order = {name: index for index, (name, _) in enumerate(probe.model.named_modules())}
    groups.sort(key=lambda group: order[group.layer])
    covered = {member for group in groups for member in group.members}
    return groups, {
        layer: reason for layer, reason in left_out.items() if layer not in covered and OUTPUT not in reason
    }


def _for_members(members: Iterable[str], layer: str, reason: str) -> dict[str, str]:
    """The reason why a layer is left whole, and with it all that go together with it."""
    return {member: reason if member == layer else f"it goes together with {layer}: {reason}" for member in members}


def _some(group: ChannelGroup, generator: torch.Generator) -> list[int]:
    """Up to half of the units: not as many of each group, so that groups which only fit together are found out."""
    count = int(torch.randint(1, group.size // 2 + 1, (), generator=generator))
    return group.least(torch.rand(group.size, generator=generator), count)


def _group_of_heads(heads: Heads) -> ChannelGroup:
    return ChannelGroup(
        layer=heads.values, members=heads.producers, size=heads.heads, cuts=heads.cuts, width=heads.head_width
    )


def _groups(coupling: Coupling, apart: set[str]) -> tuple[list[ChannelGroup], dict[str, str]]:
    """Groups of channels that go together; and why other layers are in none.

    A component belongs to the first layer that makes some of its channels.

    Args:
        coupling: Coupling of the channels of the network.
        apart: Names of layers that are handled elsewhere.
    """
    component_of, frozen = coupling.components.of, coupling.components.frozen
    components_of = {layer: component_of[labels] for layer, labels in coupling.outputs.items() if layer not in apart}
    makers: dict[int, list[str]] = {}
    for layer, components in components_of.items():
        for component in np.unique(components).tolist():
            makers.setdefault(component, []).append(layer)
    units: dict[str, list[int]] = {}
    left_out: dict[str, str] = {}
    for layer, components in components_of.items():
        counts = Counter(components.tolist())
        free = [component for component in counts if component not in frozen]
        owned = [component for component in free if makers[component][0] == layer]
        if layer not in coupling.runs:
            left_out[layer] = "it does not run"
        elif not free:
            left_out[layer] = next(frozen[component] for component in counts)
        elif owned:
            blocks = Counter(counts[component] for component in owned).most_common(1)[0][0]
            equal = [component for component in owned if counts[component] == blocks]
            if len(equal) > 1:
                units[layer] = equal
                continue
            reason = f"its {len(components)} channels, in parts that must stay equal, leave nothing to choose"
            if len(components) == 1:
                reason = "it has a single channel"
            left_out |= _for_members({maker for component in owned for maker in makers[component]}, layer, reason)
    unit_of = np.full(int(component_of.max(initial=-1)) + 1, -1)
    owner = np.full(len(unit_of), -1)
    for number, owned in enumerate(units.values()):
        unit_of[owned], owner[owned] = range(len(owned)), number
    cuts: list[list[Cut]] = [[] for _ in units]
    for side in coupling.sides:
        components = component_of[side.labels]
        for number in np.unique(owner[components]).tolist():
            if number >= 0:
                channels = np.flatnonzero(owner[components] == number)
                cuts[number].append(
                    Cut(
                        name=side.name,
                        handler=side.handler,
                        channels=tuple(channels.tolist()),
                        produces=side.produces,
                        dimension=side.dimension,
                        roots=tuple(unit_of[components[channels]].tolist()),
                    )
                )
    groups = [
        ChannelGroup(
            layer=layer,
            members=tuple(dict.fromkeys(maker for component in owned for maker in makers[component])),
            size=len(owned),
            blocks=int(np.sum(components_of[layer] == owned[0])),
            cuts=tuple(cut),
        )
        for (layer, owned), cut in zip(units.items(), cuts, strict=True)
    ]
    return groups, left_out
