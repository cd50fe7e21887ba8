"""Structured pruning: whole channels are removed, so that what is left is an ordinary, smaller network."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from compression.checks import check_number
from compression.pruning.check import Probe
from compression.pruning.plan import apply_cuts
from compression.pruning.ranking import IMPORTANCES, choose, find_groups
from compression.pruning.shapes import changed_shapes, with_shapes
from compression.step import Context, Step, count_parameters, device_of, seeded
from nasbench_registry import UserError, one_of


@dataclass(frozen=True, kw_only=True)
class Prune(Step):
    """Remove the least important channels of each group of coupled layers.

    DepGraph (Fang et al., CVPR 2023, arXiv:2301.12900) through torch-pruning. Deviations: each cut is first tried on
    a copy with random weights, and a group whose cut is wrong there is left whole (`left_out` in the note); the norm
    of a channel is the mean of |w|^p over the coupled layers, without the paper's sparse training; a global ranking
    leaves each layer at least a tenth of its channels.

    Attributes:
        importance: "l2" or "l1" (norm of the weights), or "random".
        ratio: share of the channels to be removed, above 0 and below 1.
        round_to: what is left of a layer is the nearest multiple of this, never less than one such multiple.
        global_ranking: let all layers compete, instead of removing the same share from each.
        epochs: fine-tuning afterwards.
        learning_rate: of the fine-tuning; None is the experiment's own.

    The layer whose output is the output of the network is never cut. The note holds `params` and, in `layers`, the
    `channels` and `params` of each changed layer as [before, after], `left_out` as {layer: reason}, and `shapes`.
    """

    name: ClassVar[str] = "prune"
    stage: ClassVar[str] = "pruned"
    not_after: ClassVar[frozenset[str]] = frozenset({"quantize", "compile"})
    summary: ClassVar[str] = "structured pruning of channels, each cut checked numerically"
    source: ClassVar[str] = "Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023, arXiv:2301.12900"

    importance: str = "l2"
    ratio: float
    round_to: int | None = None
    global_ranking: bool = False
    epochs: int = 0
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        one_of("importance", self.importance, IMPORTANCES)
        check_number("prune ratio", self.ratio, above=0, below=1)
        check_number("prune round_to", self.round_to, at_least=1, integer=True, optional=True)
        check_number("prune epochs", self.epochs, at_least=0, integer=True)
        check_number("prune learning_rate", self.learning_rate, above=0, optional=True)

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        """See `Step.apply`.

        Raises:
            UserError: not a single channel could be removed; says why.
        """
        with seeded(context.seed, device=device_of(model)):
            pruned, note = self._cut(model, context)
            if self.epochs:
                context.finetune(pruned, epochs=self.epochs, learning_rate=self.learning_rate)
        return pruned, note

    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """See `Step.restore`; shapes come from the note, so torch-pruning is not needed."""
        return with_shapes(model, note["shapes"])

    def _cut(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        generator = torch.Generator().manual_seed(context.seed)
        groups, left_out = find_groups(model, context.example_inputs, self.importance, generator)
        chosen = choose(groups, self.ratio, self.round_to, global_ranking=self.global_ranking)
        probe = Probe(model, context.example_inputs, generator)
        pruned = copy.deepcopy(model)
        for group, removed in zip(groups, chosen, strict=True):
            if not removed:
                left_out[group.layer] = f"none of its {group.channels} channels is to go at this ratio and round_to"
                continue
            cuts = probe.try_cut(group.layer, group.positions(removed))
            if isinstance(cuts, str):
                left_out[group.layer] = cuts
                continue
            apply_cuts(pruned, cuts)
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        for name, parameter in pruned.named_parameters():
            parameter.requires_grad_(name not in frozen)
        shapes = changed_shapes(model, pruned)
        if not shapes:
            reasons = "; ".join(f"{layer}: {reason}" for layer, reason in left_out.items())
            raise UserError(
                f"prune with ratio {self.ratio} removes nothing from this network "
                f"({reasons or 'its only layers produce its output'}); "
                f"raise the ratio, lower round_to, or leave the step out of the recipe."
            )
        layers = {}
        for name, module in pruned.named_modules():
            if name in shapes and isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
                old = model.get_submodule(name)
                layers[name] = {
                    "channels": [_outputs(old), _outputs(module)],
                    "params": [count_parameters(old), count_parameters(module)],
                }
        return pruned, {
            "ratio": self.ratio,
            "importance": self.importance,
            "params": [count_parameters(model), count_parameters(pruned)],
            "layers": layers,
            "left_out": left_out,
            "shapes": shapes,
        }


def _outputs(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]  # a convolution's count is an int
