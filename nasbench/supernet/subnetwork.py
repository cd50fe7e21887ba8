"""A network of an elastic one, as a step of a recipe, so that it can be built again without the supernet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from nasbench.supernet.resolution import AtResolution
from nasbench_compression.copying import copy_network
from nasbench_compression.pruning.layers import drop_block
from nasbench_compression.pruning.shapes import changed_shapes, with_shapes
from nasbench_compression.step import Context, Step
from nasbench_compression.subnetworks import Divisible


@dataclass(frozen=True, kw_only=True)
class SubnetworkStep(Step):
    """Exactly these widths, blocks and this resolution, where `Prune` and `DropLayers` are given a target.

    Attributes:
        widths: Channels that are left of a group of coupled layers, by the name of its first layer; others stay whole.
        left_out: Names of residual blocks that are left out.
        resolution: Side in pixels that images are resized to inside the network; None leaves them as they are.
        importance: Importance by which channels are removed, as in `Prune`.
    """

    name: ClassVar[str] = "subnetwork"
    stage: ClassVar[str] = "extracted"
    not_after: ClassVar[frozenset[str]] = frozenset({"quantize", "compile"})
    summary: ClassVar[str] = "chosen widths, residual blocks and resolution"
    source: ClassVar[str] = "Yu et al., BigNAS, ECCV 2020, arXiv:2003.11142"

    widths: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    resolution: int | None = None
    importance: str = "l2"

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        """See `Step.apply`.

        Raises:
            UserError: The network has no such group or block.
        """
        divisible = Divisible.of(model, context, importance=self.importance)
        cut = divisible.subnetwork(self.widths, self.left_out).network
        short = copy_network(divisible.model)
        for name in self.left_out:
            drop_block(short, name)
        note = {"shapes": changed_shapes(short, cut), "left_out": list(self.left_out), "resolution": self.resolution}
        return cut if self.resolution is None else AtResolution(cut, self.resolution), json.loads(json.dumps(note))

    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """See `Step.restore`."""
        model = copy_network(model)
        for name in note["left_out"]:
            drop_block(model, name)
        cut = with_shapes(model, note["shapes"])
        return cut if note["resolution"] is None else AtResolution(cut, note["resolution"])
