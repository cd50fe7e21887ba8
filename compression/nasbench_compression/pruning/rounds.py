"""One round of pruning: find groups, rank their channels, meet a target, prove the cut, cut."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasbench_compression.copying import copy_network
from nasbench_compression.macs import count_macs
from nasbench_compression.outputs import tensors_of
from nasbench_compression.pruning.check import Probe
from nasbench_compression.pruning.coupling import ROOTS, channels_of
from nasbench_compression.pruning.groups import ChannelGroup, find_groups
from nasbench_compression.pruning.importances import IMPORTANCES, NoImportance, RankedChannels
from nasbench_compression.pruning.plan import Cut, apply_cuts, merge
from nasbench_compression.pruning.ranking import beside, choose
from nasbench_compression.step import Context, count_parameters, given
from nasbench_compression.surgery import inference

Chosen = Sequence[list[int]]
"""Positions that go, for each group of a round."""


class Unmeasured(RuntimeError):
    """A network that does not run without some positions, which were screened with others only.

    Attributes:
        chosen: Positions that were removed, for each group.
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


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """What a convolution or a linear layer costs, uncut.

    Attributes:
        name: Name of the module.
        macs: Multiply-adds for one image.
        weights: Number of its weights.
        inputs: Number of input channels.
        outputs: Number of output channels.
    """

    name: str
    macs: int
    weights: int
    inputs: int
    outputs: int


@dataclass(kw_only=True)
class Round:
    """The groups of one network, ranked.

    Attributes:
        model: Network to be cut; it is not changed.
        context: Context of the step.
        ranking: Options of the ranking of channels.
        probe: Copy of the network on which cuts are tried.
        groups: Groups that can be cut.
        scores: Importance of the units of each group, (size,) each.
        left_out: Layers that are in no group, each with the reason.
    """

    model: nn.Module
    context: Context
    ranking: Ranking
    probe: Probe
    groups: list[ChannelGroup] = field(default_factory=list)
    scores: list[Tensor] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    _macs: dict[str, int] = field(default_factory=dict)
    _counts: dict[str, tuple[list[tuple[str, bool]], NDArray[np.int64]]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, context: Context, ranking: Ranking, generator: torch.Generator) -> Round:
        """Find and rank the groups of a network.

        Raises:
            UserError: The importance needs labels and there are none, or `exclude` names no module.
        """
        importance = IMPORTANCES[ranking.importance]
        evidence = importance.measure(model, context, ranking.calibration_images)
        probe = Probe(model, context.example_inputs, generator)
        groups, left_out = find_groups(probe, generator, exclude=ranking.exclude, heads=ranking.heads)
        pruning_round = cls(model=model, context=context, ranking=ranking, probe=probe, left_out=left_out)
        for group in groups:
            ranked = RankedChannels(
                model=model, cuts=group.cuts, channels=group.size, evidence=evidence, generator=generator
            )
            try:
                scores = torch.nan_to_num(importance.score(ranked))
            except NoImportance as error:
                pruning_round.left_out[group.layer] = f"importance {ranking.importance} says nothing of it: {error}"
                continue
            pruning_round.groups.append(group)
            pruning_round.scores.append(scores / group.blocks)
        return pruning_round

    @property
    def sizes(self) -> dict[str, int]:
        """Channels of each group by its layer, those of coupled layers counted once."""
        return {group.layer: group.size * group.share for group in self.groups}

    @property
    def channels(self) -> int:
        """Channels of all groups together, those of coupled layers counted once."""
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

    def macs(self, chosen: Chosen) -> int:
        """Multiply-adds of one image, without these positions.

        Raises:
            Unmeasured: The network does not run without them.
        """
        key = str(chosen)  # the cut that is settled on is asked for again
        if key not in self._macs:
            self._macs[key] = self._measured(chosen, lambda network: count_macs(network, self.probe.inputs))
        return self._macs[key]

    def params(self, chosen: Chosen) -> int:
        """Parameters, without these positions; raises as `macs`."""
        return self._measured(chosen, count_parameters)

    def _measured(self, chosen: Chosen, measure: Callable[[nn.Module], int]) -> int:
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
        """Multiply-adds of layers without these positions, leaving out what runs without calling one."""
        return self._estimated(chosen, [layer.macs for layer in self._layers])

    def estimated_params(self, chosen: Chosen) -> float:
        """Weights of layers without these positions, leaving out biases and norms."""
        return self._estimated(chosen, [layer.weights for layer in self._layers])

    def _estimated(self, chosen: Chosen, costs: Sequence[int]) -> float:
        """A cost of a layer changes with the product of its inputs and outputs, so that no forward pass is needed."""
        removed: Counter[tuple[str, bool]] = Counter()
        for group, positions in zip(self.groups, chosen, strict=True):
            if positions:
                sides, counts = self._positions(group)
                removed.update(dict(zip(sides, counts[:, positions].sum(1).tolist(), strict=True)))
        return sum(
            cost * (1 - removed[layer.name, False] / layer.inputs) * (1 - removed[layer.name, True] / layer.outputs)
            for cost, layer in zip(costs, self._layers, strict=True)
        )

    def _positions(self, group: ChannelGroup) -> tuple[list[tuple[str, bool]], NDArray[np.int64]]:
        """The layers that a group cuts, with the side, and how many channels go there with each unit: (sides, size)."""
        if group.layer not in self._counts:
            names = {layer.name for layer in self._layers}
            cuts = [cut for cut in group.cuts if cut.name in names]
            counts = [np.bincount(cut.roots, minlength=group.size) for cut in cuts]
            sides = [(cut.name, cut.produces) for cut in cuts]
            self._counts[group.layer] = sides, np.stack(counts) if counts else np.zeros((0, group.size), np.int64)
        return self._counts[group.layer]

    @functools.cached_property
    def _layers(self) -> list[_Layer]:
        """Convolutions and linear layers that are called, each with what it costs for one image."""
        layers: dict[str, _Layer] = {}

        def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                weights = sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)
                in_channels, out_channels = channels_of(module)
                values = sum(tensor.numel() for tensor in tensors_of(output).values())
                earlier = layers[name].macs if name in layers else 0
                macs = earlier + values // len(self.probe.inputs) // out_channels * weights
                layers[name] = _Layer(name=name, macs=macs, weights=weights, inputs=in_channels, outputs=out_channels)

            return hook

        with self.probe.cut(()) as network, contextlib.ExitStack() as hooks, inference(network):
            for name, module in network.named_modules():
                if isinstance(module, ROOTS):
                    hooks.callback(module.register_forward_hook(note(name)).remove)
            network(self.probe.inputs)
        return list(layers.values())

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
        network = copy_network(self.model)
        apply_cuts(network, self._cuts(chosen))
        return network
