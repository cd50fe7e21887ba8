"""The networks inside a trained one: fewer channels, attention heads and residual blocks, with the same weights."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasbench_compression.checks import check_network
from nasbench_compression.copying import copy_network
from nasbench_compression.pruning.groups import ChannelGroup
from nasbench_compression.pruning.importances import IMPORTANCES
from nasbench_compression.pruning.layers import drop_block, residual_blocks
from nasbench_compression.pruning.plan import Cut, apply_cuts, merge
from nasbench_compression.pruning.rounds import Ranking, Round
from nasbench_compression.step import Context, device_of, seeded
from nasbench_registry import UserError, one_of

SMALLEST = 0.25
"""Share of its channels that each group is left with when the cut of all groups at once is checked."""


@dataclass(frozen=True)
class Positions:
    """Positions of the values of a smaller tensor in a whole one.

    Attributes:
        along: Positions along each dimension; None where the smaller tensor has all of them.
        flat: Places in the flattened whole tensor, in the shape of the smaller one, where they are no product of
            positions.
    """

    along: tuple[slice | Tensor | None, ...] = ()
    flat: Tensor | None = None

    def take(self, whole: Tensor) -> Tensor:
        """The smaller tensor, through which gradients reach the whole one; a view of it where slices allow that."""
        if self.flat is not None:
            return whole.flatten()[self.flat.to(whole.device)]
        for dimension, places in enumerate(self.along):
            if isinstance(places, slice):
                whole = whole.narrow(dimension, places.start, places.stop - places.start)
            elif places is not None:
                whole = whole.index_select(dimension, places.to(whole.device))
        return whole


@dataclass(frozen=True)
class Subnetwork:
    """A network inside a larger one.

    Attributes:
        network: Network of its own, with copies of the values.
        positions: Positions of the values of each of its parameters and floating-point buffers in the tensor of the
            same name in the larger network.
    """

    network: nn.Module
    positions: Mapping[str, Positions]


@dataclass(frozen=True, kw_only=True)
class Divisible:
    """A trained network, and what may be missing in the networks inside it.

    Channels are removed in one order for each group of coupled layers, the least important first, so that a narrower
    network is part of every wider one.

    Attributes:
        model: Whole network; it is not changed.
        groups: Groups of channels, whose widths are chosen one by one.
        scores: Importance of the units of each group, (size,) each.
        blocks: Names of the residual blocks that may be left out.
        left_out: Layers and blocks that stay whole, each with the reason.
    """

    model: nn.Module
    groups: Sequence[ChannelGroup]
    scores: Sequence[Tensor]
    blocks: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        context: Context,
        *,
        importance: str = "l2",
        heads: bool = True,
        exclude: Sequence[str] = (),
        scores: Mapping[str, Sequence[float]] | None = None,
    ) -> Divisible:
        """Find the groups of channels and the residual blocks of a network.

        Each group is tried alone by `Round.of`, and all of them together at `SMALLEST`, on random weights: what is
        wrong without its channels is left whole.

        Args:
            model: Trained network; it is copied.
            context: Context with example inputs, and with what the importance needs.
            importance: Importance of channels, one of `nasbench_compression.pruning.importances.IMPORTANCES`.
            heads: Whether attention heads may be missing, as wholes.
            exclude: Names of modules, or patterns of names, whose layers keep their channels.
            scores: Importance of the units of each group, by its layer, as it was found before; None computes it.

        Raises:
            UserError: The importance is unknown, or the network does not run on the inputs, or has neither channels nor
                blocks that may be missing.
        """
        one_of("importance", importance, IMPORTANCES)
        check_network("elastic", model, context.inputs)
        ranking = Ranking(
            importance=importance,
            round_to=None,
            global_ranking=False,
            exclude=exclude,
            heads=heads,
            calibration_images=256,
        )
        with seeded(context.seed, device=device_of(model)):
            whole = copy_network(model).eval()
            ranked = Round.of(whole, context, ranking, torch.Generator().manual_seed(context.seed))
            if scores is not None:
                ranked.scores = [
                    torch.tensor(scores[group.layer], dtype=torch.float64) if group.layer in scores else ranked_scores
                    for group, ranked_scores in zip(ranked.groups, ranked.scores, strict=True)
                ]
            smallest = functools.partial(_without, share=SMALLEST)
            while ranked.groups and ranked.drop_wrong(list(map(smallest, ranked.groups, ranked.scores))):
                pass
            left_out = dict(ranked.left_out)
            blocks = residual_blocks(whole, context.example_inputs.to(device_of(whole)), left_out)
        if not ranked.groups and not blocks:
            reasons = "; ".join(f"{layer or 'the network itself'}: {reason}" for layer, reason in left_out.items())
            raise UserError(
                f"this network has no channels and no residual blocks that may be missing ({reasons or 'no layers'}), "
                f"so there are no networks inside it; take a network that step 'prune' can cut."
            )
        return cls(model=whole, groups=ranked.groups, scores=ranked.scores, blocks=tuple(blocks), left_out=left_out)

    def block_of(self, group: ChannelGroup) -> str | None:
        """The block with which all layers of a group are missing; None if there is none."""
        inside = (
            block for block in self.blocks if all(cut.name.startswith(f"{block}.") for cut in group.cuts if cut.name)
        )
        return next(inside, None)

    def subnetwork(self, kept: Mapping[str, int], dropped: Sequence[str] = ()) -> Subnetwork:
        """A network inside the whole one.

        Args:
            kept: Channels that are left of a group, by its layer; groups that are not named keep all. What is no
                multiple of the channels that go together is rounded down, but at least one unit stays.
            dropped: Names of blocks that are left out.

        Raises:
            UserError: There is no such group or block.
        """
        by_layer = {group.layer: index for index, group in enumerate(self.groups)}
        for name in kept:
            if name not in by_layer:
                raise UserError(f"{name!r} is no group of channels of this network; it has {', '.join(by_layer)}.")
        for name in dropped:
            if name not in self.blocks:
                raise UserError(f"{name!r} is no block that may be missing; there are {', '.join(self.blocks)}.")
        network = copy_network(self.model)
        places = _numbered(network)
        cuts: list[Cut] = []
        for name, channels in kept.items():
            group, scores = self.groups[by_layer[name]], self.scores[by_layer[name]]
            units = min(max(int(channels) // group.share, 1), group.size)
            cuts += group.without(group.least(scores, group.size - units))
        apply_cuts(network, merge(cuts))
        for name in dropped:
            drop_block(network, name)
        whole = _tensors(self.model)
        positions = {}
        for name, tensor in _tensors(network).items():
            if name not in places:
                continue
            positions[name] = _positions(tensor.detach(), tuple(whole[name].shape))
            # The structure held numbers until now.
            tensor.data = positions[name].take(whole[name].detach()).clone(memory_format=torch.contiguous_format)
        return Subnetwork(network, positions)


def _without(group: ChannelGroup, scores: Tensor, share: float) -> list[int]:
    return group.least(scores, group.size - max(1, round(share * group.size)))


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_parameters()) | dict(network.named_buffers())


def _numbered(network: nn.Module) -> set[str]:
    """Let each value of the parameters and of the floating-point buffers be its place in its tensor; their names."""
    names = set()
    for name, tensor in _tensors(network).items():
        if tensor.is_floating_point() and tensor.ndim > 0:
            tensor.data = torch.arange(tensor.numel(), dtype=torch.float64).view(tensor.shape)
            names.add(name)
    return names


def _positions(places: Tensor, shape: tuple[int, ...]) -> Positions:
    """The positions of numbered values in a whole tensor of this shape."""
    numbers = places.long().cpu()
    if tuple(numbers.shape) == shape:
        return Positions((None,) * len(shape))
    if numbers.ndim == len(shape):
        along: list[Tensor] = []
        for dimension, index in enumerate(np.unravel_index(numbers.numpy(), shape)):
            first: Any = tuple(slice(None) if axis == dimension else 0 for axis in range(numbers.ndim))
            along.append(torch.from_numpy(np.ascontiguousarray(index[first])))
        product = torch.zeros((), dtype=torch.long)
        for dimension, chosen in enumerate(along):
            stride = int(np.prod(shape[dimension + 1 :], dtype=np.int64))
            product = product + (chosen * stride).view(*(-1 if d == dimension else 1 for d in range(numbers.ndim)))
        if torch.equal(product.expand(numbers.shape), numbers):
            return Positions(tuple(map(_plain, along, shape)))
    return Positions(flat=numbers)


def _plain(index: Tensor, size: int) -> slice | Tensor | None:
    """Positions along one dimension: None for all of them, a slice where they follow each other."""
    start = int(index[0])
    if not torch.equal(index, torch.arange(start, start + len(index))):
        return index
    return None if len(index) == size else slice(start, start + len(index))
