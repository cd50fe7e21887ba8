"""One round of pruning: find groups, rank their channels, meet a target, prove the cut, cut."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nasbench_compression.copying import copy_network
from nasbench_compression.macs import count_macs, macs_by_module
from nasbench_compression.pruning.check import Probe
from nasbench_compression.pruning.coupling import ROOTS, channels_of
from nasbench_compression.pruning.groups import ChannelGroup, find_groups
from nasbench_compression.pruning.importances import IMPORTANCES, NoImportance, RankedChannels
from nasbench_compression.pruning.plan import Cut, apply_cuts, merge
from nasbench_compression.pruning.ranking import beside, choose
from nasbench_compression.step import Context, count_parameters, given

Chosen = Sequence[list[int]]
"""Positions that go, for each group of a round."""


class Unmeasured(RuntimeError):
    """A network that does not run without some positions, which were screened with others only.

    Attributes:
        chosen: the positions.
    """

    def __init__(self, chosen: Chosen) -> None:
        super().__init__("the network does not run without these channels")
        self.chosen = chosen


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How channels are ranked and rounded; see `Prune` for what the fields mean."""

    importance: str
    round_to: int | None
    global_ranking: bool
    exclude: Sequence[str]
    heads: bool
    calibration_images: int


@dataclass(kw_only=True)
class Round:
    """The groups of one network, ranked.

    Attributes:
        model: the network to be cut; left as it is.
        context: what the step was given.
        ranking: how channels are ranked.
        groups: that can be cut, with `scores`, (size,) each.
        left_out: layers that are in no group, each with the reason.
    """

    model: nn.Module
    context: Context
    ranking: Ranking
    probe: Probe
    groups: list[ChannelGroup] = field(default_factory=list)
    scores: list[Tensor] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    _counts: dict[tuple[str, tuple[int, ...]], list[tuple[tuple[str, bool], int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, context: Context, ranking: Ranking, generator: torch.Generator) -> Round:
        """Find and rank the groups of a network.

        Raises:
            UserError: the importance needs labels and there are none, or `exclude` names no module.
        """
        importance = IMPORTANCES[ranking.importance]
        evidence = importance.measure(model, context, ranking.calibration_images)
        probe = Probe(model, context.example_inputs, generator)
        found, left_out = find_groups(probe, generator, exclude=ranking.exclude, heads=ranking.heads)
        made = cls(model=model, context=context, ranking=ranking, probe=probe, left_out=left_out)
        for group in found:
            ranked = RankedChannels(
                model=model, cuts=group.cuts, channels=group.size, evidence=evidence, generator=generator
            )
            try:
                scores = torch.nan_to_num(importance.score(ranked))
            except NoImportance as error:
                made.left_out[group.layer] = f"importance {ranking.importance} says nothing of it: {error}"
                continue
            made.groups.append(group)
            made.scores.append(scores / group.blocks)
        return made

    @property
    def sizes(self) -> dict[str, int]:
        """Channels of each group by its layer, those of coupled layers counted once."""
        return {group.layer: group.size * group.share for group in self.groups}

    @property
    def channels(self) -> int:
        """Of all groups."""
        return sum(self.sizes.values())

    def choose(self, ratio: float) -> list[list[int]]:
        """Positions of each group that go with a share of all channels."""
        return choose(
            self.groups,
            self.scores,
            ratio,
            self.ranking.round_to,
            global_ranking=self.ranking.global_ranking,
            comparable=IMPORTANCES[self.ranking.importance].comparable,
        )

    def macs(self, chosen: Chosen) -> float:
        """Multiply-adds of one image, without these positions.

        Raises:
            Unmeasured: the network does not run without them.
        """
        return self._measured(chosen, lambda network: count_macs(network, self.probe.inputs))

    def params(self, chosen: Chosen) -> float:
        """Parameters, without these positions; raises as `macs`."""
        return self._measured(chosen, count_parameters)

    def _measured(self, chosen: Chosen, measure: Callable[[nn.Module], float]) -> float:
        try:
            with self.probe.cut(self._cuts(chosen)) as network:
                return measure(network)
        except Exception as error:  # whatever the user's network raises
            raise Unmeasured(chosen) from error

    def latency_ms(self, chosen: Chosen) -> float:
        """Measured latency, without these positions."""
        return given(self.context.latency_ms)(self._without(chosen))

    def beside(self, chosen: Chosen) -> Iterator[list[list[int]]]:
        """Choices that differ in one group, by as little as may be."""
        for index, group in enumerate(self.groups):
            for count in beside(group, len(chosen[index]), self.ranking.round_to):
                yield [*chosen[:index], group.least(self.scores[index], count), *chosen[index + 1 :]]

    def estimated_macs(self, chosen: Chosen) -> float:
        """Multiply-adds of the layers without these positions, up to a constant, and not of what has no module.

        Those of a layer go with the product of its inputs and outputs, which takes no forward pass.
        """
        removed: Counter[tuple[str, bool]] = Counter()
        for group, positions in zip(self.groups, chosen, strict=True):
            key = group.layer, tuple(positions)
            if key not in self._counts:
                gone = set(positions)
                self._counts[key] = [
                    ((cut.name, cut.produces), sum(root in gone for root in cut.roots)) for cut in group.cuts
                ]
            for side, count in self._counts[key]:
                removed[side] += count
        total = 0.0
        for name, count in self._macs_of_layers.items():
            layer = self.probe.model.get_submodule(name)
            inputs, outputs = channels_of(layer)
            total += count * (1 - removed[name, False] / inputs) * (1 - removed[name, True] / outputs)
        return total

    @functools.cached_property
    def _macs_of_layers(self) -> dict[str, int]:
        layers = {name for name, module in self.probe.model.named_modules() if isinstance(module, ROOTS)}
        with self.probe.cut(()) as network:
            counts = macs_by_module(network, self.probe.inputs)
        return {name: count for name, count in counts.items() if name in layers}

    def drop_wrong(self, chosen: Chosen) -> bool:
        """Try the whole cut on the probe; groups that are wrong in it are left out. Returns whether there were any."""
        plans = [group.without(removed) for group, removed in zip(self.groups, chosen, strict=True)]
        wrong = self.probe.accept(plans, [])
        for index in sorted(wrong, reverse=True):
            self.left_out[self.groups[index].layer] = wrong[index]
            del self.groups[index], self.scores[index]
        return bool(wrong)

    def cut(self, chosen: Chosen) -> tuple[nn.Module, dict[str, int]]:
        """The network without these positions, and the channels left of each group, by its layer."""
        left = {}
        for group, removed in zip(self.groups, chosen, strict=True):
            left[group.layer] = (group.size - len(removed)) * group.share
            if not removed:
                self.left_out[group.layer] = (
                    f"none of its {group.size * group.share} channels is to go at this target and round_to"
                )
        return self._without(chosen), left

    def _cuts(self, chosen: Chosen) -> tuple[Cut, ...]:
        pairs = zip(self.groups, chosen, strict=True)
        return merge(cut for group, removed in pairs for cut in group.without(removed))

    def _without(self, chosen: Chosen) -> nn.Module:
        made = copy_network(self.model)
        apply_cuts(made, self._cuts(chosen))
        return made
