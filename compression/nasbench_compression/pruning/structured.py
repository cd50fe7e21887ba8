"""Structured pruning: whole channels are removed, so that what is left is an ordinary, smaller network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from nasbench_compression.checks import check_network, check_number
from nasbench_compression.copying import copy_network, summary
from nasbench_compression.exclude import check_exclude
from nasbench_compression.pruning.coupling import ROOTS, channels_of
from nasbench_compression.pruning.importances import IMPORTANCES
from nasbench_compression.pruning.rounds import Ranking, Round
from nasbench_compression.pruning.shapes import changed_shapes, with_shapes
from nasbench_compression.pruning.targets import TARGETS, Target, find_cut, quantity
from nasbench_compression.reference import Reference, check_independent, check_restores, run
from nasbench_compression.step import Context, Step, count_parameters, device_of, given, seeded
from nasbench_registry import UserError, one_of


@dataclass(frozen=True, kw_only=True)
class Prune(Step):
    """Remove the least important channels of each group of coupled layers.

    DepGraph (Fang et al., CVPR 2023, arXiv:2301.12900), whose groups of layers are found here channel by channel, by
    following one forward pass (`nasbench_compression.pruning.coupling`), and cut by torch-pruning. Deviations: each cut
    is first tried on a copy with random weights, and a group whose cut is wrong there is left whole (`left_out` in the
    note); there is no sparse training; a global ranking, and `macs_ratio`, leave each layer at least about a tenth.

    One of the five targets is set:

    Attributes:
        ratio: share of the channels to be removed, above 0 and below 1, of those layers that can be cut; channels that
            must go together are counted once.
        macs_ratio: share of the network's multiply-adds to be removed.
        max_macs: multiply-adds for one image that are left at most.
        max_params: parameters that are left at most.
        max_latency_ms: latency as `Context.latency_ms` measures it, at most; found with few measurements.
        importance: one of `IMPORTANCES`, where each says what it computes: "l2", "l1", "bn_scale", "fpgm", "taylor",
            "obd", "lamp", "activation" or "random".
        global_ranking: let all layers compete, instead of removing the same share from each.
        round_to: what is left of a layer is a multiple of this, just below or above what the target asks for, never
            less than one such multiple.
        iterations: rounds in which the target is approached, each with the same share of what is left; channels are
            ranked anew in each.
        epochs: fine-tuning after each round.
        learning_rate: learning rate of the fine-tuning; None is the experiment's own.
        exclude: names of modules, or patterns such as "blocks.*", whose layers keep their output channels, and so do
            layers that are coupled with them. What they read may still shrink.
        heads: remove attention heads, too, as wholes, from modules that `find_heads` knows.
        calibration_images: images that "taylor", "obd" and "activation" look at, at most.

    The layer whose output is the output of the network is never cut. The note holds, as [before, after], `channels`,
    `macs` and `params`, and `latency_ms` where it was the target; `target` and what was `reached` of it, with `missed`,
    a reason, where that is more than 2 % beside the target; in `layers`, `channels` and `params` of each changed layer;
    `left_out` as {layer: reason}; for each round, the share of channels it removed; and `shapes`.
    """

    name: ClassVar[str] = "prune"
    stage: ClassVar[str] = "pruned"
    nothing: ClassVar[Mapping[str, Any]] = {"ratio": 0, "macs_ratio": 0}
    not_after: ClassVar[frozenset[str]] = frozenset({"quantize", "compile"})
    summary: ClassVar[str] = "structured pruning of channels and attention heads, each cut checked numerically"
    source: ClassVar[str] = "Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023, arXiv:2301.12900"

    advice: ClassVar[str] = (
        "remove more, or set round_to: 8, for kernels work on channels by the eight and what is left over costs as much"
    )

    importance: str = "l2"
    ratio: float | None = None
    macs_ratio: float | None = None
    max_macs: float | None = None
    max_params: float | None = None
    max_latency_ms: float | None = None
    round_to: int | None = None
    global_ranking: bool = False
    iterations: int = 1
    epochs: int = 0
    learning_rate: float | None = None
    exclude: tuple[str, ...] = ()
    heads: bool = False
    calibration_images: int = 256

    def __post_init__(self) -> None:
        one_of("importance", self.importance, IMPORTANCES)
        for option in TARGETS:
            below = 1 if option.endswith("ratio") else None
            check_number(f"prune {option}", getattr(self, option), above=0, below=below, optional=True)
        targets = {option: getattr(self, option) for option in TARGETS if getattr(self, option) is not None}
        if not targets:
            raise UserError(
                "step 'prune' needs the option 'ratio', or one of macs_ratio, max_macs, max_params, max_latency_ms in "
                "its place; write ratio: followed by its value."
            )
        if len(targets) > 1:
            raise UserError(f"prune has the targets {targets}; give exactly one of {', '.join(TARGETS)}.")
        check_number("prune round_to", self.round_to, at_least=1, integer=True, optional=True)
        check_number("prune iterations", self.iterations, at_least=1, integer=True)
        check_number("prune epochs", self.epochs, at_least=0, integer=True)
        check_number("prune learning_rate", self.learning_rate, above=0, optional=True)
        check_number("prune calibration_images", self.calibration_images, at_least=1, integer=True)
        object.__setattr__(self, "exclude", check_exclude("prune", self.exclude))

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Step.needs`."""
        latency = ("latency_ms",) if self.max_latency_ms is not None else ()
        return (*super().needs, *IMPORTANCES[self.importance].needs, *latency)

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        """See `Step.apply`.

        Raises:
            UserError: not a single channel could be removed, the network is within the target already or cannot get
                there, `exclude` names no module, or the context lacks what the options need; the
                network does not run on the images, has no copy, or holds values that are not finite.
        """
        context.require(self.name, self.needs)
        check_network("prune", model, context.inputs)
        with seeded(context.seed, device=device_of(model)):
            example = context.example_inputs.to(device_of(model))
            copied = copy_network(model)
            Reference.of("prune", copied, example)
            check_independent("prune", copied, model, example)
            pruned, note = self._prune(model, context)
            check_restores(self, model, pruned, note, example)
        return pruned, note

    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """See `Step.restore`; shapes come from the note, so torch-pruning is not needed."""
        return with_shapes(model, note["shapes"])

    def _prune(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        target = self._target
        start = 0.0
        if target.kind != "channels":
            start = quantity(target.kind, model, context)
            target.check(start)
        generator = torch.Generator().manual_seed(context.seed)
        left: dict[str, int] = {}  # channels of each group, as the last round that could cut it left them
        rounds: list[float] = []
        total, pruned = 0, model
        for number in range(1, self.iterations + 1):
            pruning_round = Round.of(pruned, context, self._ranking, generator)
            left |= pruning_round.sizes
            kept_share = (target.limit(start) / start if start else 1 - target.value) ** (number / self.iterations)
            if target.kind == "channels":
                # Of all channels of the first round; those of groups that cannot be cut any more stay.
                goal = (total or pruning_round.channels) * kept_share - (sum(left.values()) - pruning_round.channels)
            else:
                goal = start * kept_share
            chosen = find_cut(pruning_round, target, goal, target.limit(start))
            if number == 1:
                left = pruning_round.sizes  # without groups that turned out to be wrong
                total = pruning_round.channels
            before = sum(left.values())
            pruned, remaining = pruning_round.cut(chosen)
            _check_runs(pruned, context)
            left |= remaining
            rounds.append(1 - sum(left.values()) / max(before, 1))
            if self.epochs and rounds[-1]:
                given(context.finetune)(pruned, epochs=self.epochs, learning_rate=self.learning_rate)
        shapes = changed_shapes(model, pruned)
        if not shapes:
            reasons = "; ".join(
                f"{layer or 'the network itself'}: {reason}" for layer, reason in pruning_round.left_out.items()
            )
            kinds = {type(module) for module in model.modules()}
            nothing = "its only layers produce its output"
            if not any(issubclass(kind, ROOTS) for kind in kinds):
                names = ", ".join(sorted(kind.__name__ for kind in kinds))
                nothing = f"no module of it is a convolution or a linear layer; it has the classes {names}"
            raise UserError(
                f"prune with {target.option} {target.value} removes nothing from this network ({reasons or nothing}); "
                f"raise the share that goes, lower round_to, or leave the step out of the recipe."
            )
        sizes: dict[str, list[float]] = {
            "channels": [total, sum(left.values())],
            "macs": [
                int(start if target.kind == "macs" else quantity("macs", model, context)),
                pruning_round.macs(chosen),
            ],
            "params": [count_parameters(model), count_parameters(pruned)],
        }
        if target.kind == "latency_ms":
            sizes[target.kind] = [start, quantity(target.kind, pruned, context)]
        return pruned, {
            "ratio": self.ratio,
            "importance": self.importance,
            "target": {target.option: target.value},
            "reached": {target.option: target.reached(*sizes[target.kind])},
            "missed": target.missed(*sizes[target.kind]),
            **sizes,
            "rounds": rounds,
            "layers": _changed_layers(model, pruned, shapes),
            "left_out": pruning_round.left_out,
            "shapes": shapes,
        }

    @property
    def _target(self) -> Target:
        return next(
            Target(option=option, value=value) for option in TARGETS if (value := getattr(self, option)) is not None
        )

    @property
    def _ranking(self) -> Ranking:
        return Ranking(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Ranking)})


def _check_runs(pruned: nn.Module, context: Context) -> None:
    """Refuse a network that runs on random images, and not on real ones, for which its code does something else."""
    for name, images in context.inputs.items():
        try:
            run(pruned, images[:8].to(device_of(pruned)))
        except Exception as error:  # whatever the user's network raises
            raise UserError(
                f"prune: without its channels, the network runs on random images and fails on {name} "
                f"({summary(error)}), so its forward does something else for some images; exclude the layers that it "
                f"chooses between."
            ) from error


def _changed_layers(before: nn.Module, after: nn.Module, shapes: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    layers = {}
    for name, module in after.named_modules():
        if name in shapes and isinstance(module, ROOTS):
            old = before.get_submodule(name)
            layers[name] = {
                "channels": [channels_of(old)[1], channels_of(module)[1]],
                "params": [count_parameters(old), count_parameters(module)],
            }
    return layers
