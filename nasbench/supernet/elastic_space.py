"""The space of the networks inside an elastic one."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from torch import nn

from nasbench_compression.subnetworks import Divisible
from nasbench_registry import UserError
from nasbench_registry.files import user_path
from search_spaces import Architecture, Decision, SearchSpace, Task

if TYPE_CHECKING:
    from nasbench.supernet.elastic import ElasticSupernet

RESOLUTION = "resolution"
LEFT_OUT, KEPT = "left out", "kept"
KEPT_AT_LEAST = 1e-3  # share of what may be missing that is drawn, and the same from the other end


class ElasticSpace(SearchSpace):
    """Widths of the groups of channels, residual blocks, and the resolution, of an elastic network.

    A width is the number of channels that are left of a group, by the name of its first layer; a block is "kept" or
    "left out", by its name; the resolution is the side of the images in pixels that the network computes with. `build`
    gives a network with the weights of the supernet as they are now.

    Args:
        folder: Folder of the supernet, as ``nasbench elastic`` or `Supernet.save` wrote it.
    """

    name = "elastic"
    summary: ClassVar[str] = "the networks inside a trained one, with its weights"

    def __init__(self, folder: str = "") -> None:
        if not folder:
            raise UserError(
                "space 'elastic' is that of a trained supernet; give its folder, as in "
                "space: {name: nasbench.supernet.elastic_space:ElasticSpace, folder: DIR}."
            )
        from nasbench.supernet.store import load_supernet

        self.folder = folder
        supernet = load_supernet(user_path(folder))
        if not isinstance(supernet.space, ElasticSpace):
            raise UserError(f"{folder} holds shared weights of space {supernet.space.name!r}; name that space.")
        self.supernet: ElasticSupernet = supernet.space.supernet
        self.decisions = supernet.space.decisions

    @classmethod
    def with_decisions(cls, decisions: Sequence[Decision]) -> Self:
        """A space of these decisions; its `supernet` is set by who made it."""
        space = cls.__new__(cls)
        space.decisions, space.folder = tuple(decisions), ""
        return space

    def sample(self, rng: np.random.Generator, max_tries: int = 1) -> Architecture:
        """An architecture, by chance; sizes are spread between the smallest and the largest network.

        Uniform picks would give networks of about a quarter of the largest one's multiply-adds, and hardly any larger
        ones: AttentiveNAS (Wang et al., CVPR 2021, arXiv:2011.09011) draws by multiply-adds for this reason. Here, a
        share of all that may be missing is drawn first, which square roots spread evenly over the multiply-adds of
        convolutional networks; then each decision has a beta-binomial option with this mean. In the middle, options
        are uniform. All architectures can occur.

        Args:
            rng: Random generator.
            max_tries: As in `SearchSpace.sample`; all architectures are valid.
        """
        kept = min(max(math.sqrt(rng.random()), KEPT_AT_LEAST), 1 - KEPT_AT_LEAST)
        shares = rng.beta(2 * kept, 2 * (1 - kept), len(self.decisions))
        picks = rng.binomial(np.array(self.layout.sizes) - 1, shares)
        return Architecture(self.name, tuple(picks.tolist()))

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """The network with copies of the shared weights; the task is that of the supernet.

        Statistics of batch norm are those of the whole network, which training or `Supernet.network` takes anew.
        """
        if task is not None and task != self.supernet.problem.task:
            raise UserError(
                f"this supernet was trained for {self.supernet.problem.task}, and not for {task}; use its own data."
            )
        return copy.deepcopy(self.supernet.member(arch).fill(self.supernet.weights)).train()


def elastic_decisions(
    divisible: Divisible, widths: Sequence[float], round_to: int | None, depth: bool, resolutions: Sequence[int]
) -> list[Decision]:
    """The decisions of an elastic network: first the resolution, then blocks, then widths, from the least to all.

    Args:
        divisible: Channels and blocks that may be missing.
        widths: Shares of the channels of a group that may be left.
        round_to: Number of which numbers of channels are multiples; the whole number of channels is always allowed.
        depth: Whether blocks may be missing.
        resolutions: Sides of the images in pixels.
    """
    decisions = [Decision(RESOLUTION, tuple(sorted(resolutions)))] if len(resolutions) > 1 else []
    blocks = list(divisible.blocks) if depth else []
    decisions += [Decision(block, (LEFT_OUT, KEPT)) for block in blocks]
    for group in divisible.groups:
        counts = {round_units(group.size, group.share, share, round_to) for share in widths}
        options = tuple(sorted(counts))
        if len(options) > 1:
            block = divisible.block_of(group)
            decisions.append(Decision(group.layer, options, when={block: KEPT} if block in blocks else {}))
    return decisions


def round_units(size: int, share: int, part: float, round_to: int | None) -> int:
    """Channels that are left of a group at a share of it.

    Args:
        size: Number of units of the group.
        share: Channels of a unit.
        part: Share of the channels.
        round_to: Number of which numbers of channels are multiples, see `elastic_decisions`.
    """
    whole = size * share
    if part >= 1:
        return whole
    step = share if round_to is None else share * max(1, round_to // share)
    return min(whole, max(step, round(part * whole / step) * step))
