"""Dropping whole residual blocks: a shallower network is faster where a narrower one may not be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasbench_compression.checks import check_network, check_number
from nasbench_compression.copying import copy_network, summary
from nasbench_compression.macs import count_macs
from nasbench_compression.outputs import is_wrapped
from nasbench_compression.reference import Reference, check_independent, check_restores, run
from nasbench_compression.step import Context, Step, count_parameters, device_of, given, seeded
from nasbench_compression.surgery import attached, inference, replace_module
from nasbench_registry import UserError, one_of

IMPORTANCES = ("block_influence", "accuracy")


@dataclass(frozen=True, kw_only=True)
class DropLayers(Step):
    """Replace residual blocks by nothing, the least important first, ranking the others anew after each.

    Layer pruning (Elkerdawy et al., To Filter Prune, or to Layer Prune, That Is The Question, ACCV 2020,
    arXiv:2007.05667) of the blocks that `residual_blocks` finds. Deviation: the paper ranks all blocks once, by
    magnitude criteria among others.

    Attributes:
        count: how many blocks go; or
        ratio: the share of the blocks that goes, above 0 and below 1; exactly one of the two.
        importance: "block_influence", one minus the mean cosine similarity of a block's input and output over
            calibration images and places (ShortGPT, Men et al. 2024, arXiv:2403.03853, eq. 1, with the channels of a
            pixel as the vector); or "accuracy", the points of validation accuracy that its removal costs, which
            validates once for each block that is left.
        epochs: fine-tuning afterwards.
        learning_rate: learning rate of the fine-tuning; None is the experiment's own.

    The note holds `dropped`, the names in the order in which they went, with the importance of each; `blocks`, how many
    there were and are; `left_alone`, blocks that the network does not do without, as {block: reason}; `macs` and
    `params` as [before, after].
    """

    name: ClassVar[str] = "drop_layers"
    stage: ClassVar[str] = "shortened"
    nothing: ClassVar[Mapping[str, Any]] = {"count": 0, "ratio": 0}
    not_after: ClassVar[frozenset[str]] = frozenset({"quantize", "compile"})
    summary: ClassVar[str] = "residual blocks that change little are dropped"
    source: ClassVar[str] = "Elkerdawy et al., To Filter Prune, or to Layer Prune, ACCV 2020, arXiv:2007.05667"

    advice: ClassVar[str] = "drop more blocks, or larger ones: a small block is over before it can be missed"

    count: int | None = None
    ratio: float | None = None
    importance: str = "block_influence"
    epochs: int = 0
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        check_number("drop_layers count", self.count, at_least=1, integer=True, optional=True)
        check_number("drop_layers ratio", self.ratio, above=0, below=1, optional=True)
        if (self.count is None) == (self.ratio is None):
            raise UserError(
                f"step 'drop_layers' needs the option 'count' or the option 'ratio', and has count {self.count} and "
                f"ratio {self.ratio}; write one of them, such as count: 2."
            )
        one_of("importance", self.importance, IMPORTANCES)
        check_number("drop_layers epochs", self.epochs, at_least=0, integer=True)
        check_number("drop_layers learning_rate", self.learning_rate, above=0, optional=True)

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Step.needs`."""
        return (*super().needs, "calibration" if self.importance == "block_influence" else "evaluate")

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        """See `Step.apply`.

        Raises:
            UserError: the network has fewer residual blocks than are to go, or the ratio is less than half a block; the
                network does not run on the images, has no copy, or holds values that are not finite.
        """
        context.require(self.name, self.needs)
        check_network("drop_layers", model, context.inputs)
        example = context.example_inputs.to(device_of(model))
        with seeded(context.seed, device=device_of(model)):
            short = copy_network(model)
            Reference.of("drop_layers", short, example)
            check_independent("drop_layers", short, model, example)
            left_alone: dict[str, str] = {}
            blocks = residual_blocks(short, example, left_alone)
            count = self.count if self.count is not None else round((self.ratio or 0) * len(blocks))
            if not 0 < count <= len(blocks):
                exceptions = "".join(f" ({name}: {reason})" for name, reason in left_alone.items())
                raise UserError(
                    f"drop_layers is to drop {count} of {len(blocks)} residual blocks whose removal keeps all shapes"
                    f"{exceptions}; give a count from 1 to their number, or leave the step out of the recipe."
                )
            dropped: dict[str, float] = {}
            for _ in range(count):
                scores = _importances(short, blocks, self.importance, context)
                worst = min(blocks, key=lambda name: scores[name])
                dropped[worst] = scores[worst]
                drop_block(short, worst)
                blocks.remove(worst)
            if self.epochs:
                given(context.finetune)(short, epochs=self.epochs, learning_rate=self.learning_rate)
        note = {
            "dropped": dropped,
            "blocks": [len(blocks) + count, len(blocks)],
            "left_alone": left_alone,
            "macs": [count_macs(network, example) for network in (model, short)],
            "params": [count_parameters(network) for network in (model, short)],
        }
        check_restores(self, model, short, note, example)
        return short, note

    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """See `Step.restore`."""
        model = copy_network(model)
        for name in note["dropped"]:
            drop_block(model, name)
        return model


def residual_blocks(model: nn.Module, example_inputs: Tensor, left_alone: dict[str, str] | None = None) -> list[str]:
    """Names of the innermost modules that pass their input on unchanged if all of their parameters are zero.

    That is what a residual block is: ``x + body(x)``, or ``relu(x + body(x))`` behind another ReLU. Without it, all
    shapes stay as they are. Only modules that run once, on one tensor, are looked at.

    Args:
        model: Network; it is not changed.
        example_inputs: Some images, (n, c, h, w).
        left_alone: Receives the reason of each block that cannot be dropped for another reason, by its name.
    """
    probe = copy_network(model).eval()
    modules = {name: module for name, module in probe.named_modules() if name and _computes(module)}
    seen: dict[str, list[Tensor | None]] = {}
    handles = [
        module.register_forward_hook(_recorder(seen, name), with_kwargs=True) for name, module in modules.items()
    ]
    images = example_inputs[:2].to(device_of(model))
    with torch.no_grad():
        probe(images)
    for handle in handles:
        handle.remove()
    unchanging: list[str] = []
    outside: dict[str, str] = {}
    with torch.no_grad():
        for parameter in probe.parameters():
            parameter.zero_()
        for name, module in modules.items():
            inputs = seen.get(name, [])
            if len(inputs) != 1 or inputs[0] is None:
                continue
            try:
                output = module(inputs[0].clone())  # it may change its input in place
            except Exception as error:  # whatever the user's block raises, under a context of its network, say
                if not any(name.startswith(f"{outer}.") for outer in outside):
                    outside[name] = (
                        f"what it computes is not seen, for it fails without the network around it ({summary(error)})"
                    )
                continue
            if isinstance(output, Tensor) and output.shape == inputs[0].shape and torch.equal(output, inputs[0]):
                unchanging.append(name)
    left_alone = {} if left_alone is None else left_alone
    innermost = [name for name in unchanging if not any(inner.startswith(f"{name}.") for inner in unchanging)]
    left_alone |= outside | {
        name: reason for name in innermost if (reason := _why_needed(model, name, images)) is not None
    }
    return [name for name in innermost if name not in left_alone]


def _why_needed(model: nn.Module, name: str, images: Tensor) -> str | None:
    """Why a network does not do without a block, apart from what it computes; None if it does."""
    for part in model.get_submodule(name).modules():
        reason = attached(part)
        if reason is not None:
            return f"{reason}, and would be lost"
    trial = copy_network(model)
    drop_block(trial, name)
    try:
        run(trial, images)
    except Exception as error:  # whatever the user's network makes of it
        return f"the network fails without it ({summary(error)})"
    return None


def _computes(module: nn.Module) -> bool:
    kinds = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)
    return any(isinstance(part, kinds) for part in module.modules())


def _recorder(seen: dict[str, list[Tensor | None]], name: str) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
        single = len(inputs) == 1 and not options and isinstance(inputs[0], Tensor) and not is_wrapped(inputs[0])
        fits = single and isinstance(output, Tensor) and output.shape == inputs[0].shape and bool(inputs[0].any())
        seen.setdefault(name, []).append(inputs[0].detach().clone() if fits else None)

    return hook


def drop_block(model: nn.Module, name: str) -> None:
    """Let a block that `residual_blocks` gave pass its input on, in place."""
    replace_module(model, model.get_submodule(name), nn.Identity())


def _importances(model: nn.Module, blocks: list[str], importance: str, context: Context) -> dict[str, float]:
    if importance == "accuracy":
        whole = float(given(context.evaluate)(model))
        return {name: whole - _accuracy_without(model, name, context) for name in blocks}
    sums = dict.fromkeys(blocks, 0.0)
    places = dict.fromkeys(blocks, 0)
    with inference(model), _watch(model, sums, places):
        for images in torch.split(given(context.calibration), 64):
            model(images.to(device_of(model)))
    return {name: 1 - sums[name] / places[name] for name in blocks}


def _accuracy_without(model: nn.Module, name: str, context: Context) -> float:
    trial = copy_network(model)
    drop_block(trial, name)
    return float(given(context.evaluate)(trial))


@contextlib.contextmanager
def _watch(model: nn.Module, sums: dict[str, float], places: dict[str, int]) -> Iterator[None]:
    """Add up the cosine similarity of input and output of modules, and count the vectors."""
    inputs: dict[str, Tensor] = {}

    def before(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            inputs[name] = arguments[0].detach().clone()  # the block may write over it

        return hook

    def after(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            dimension = 1 if output.ndim == 4 else -1
            similar = nn.functional.cosine_similarity(inputs.pop(name), output, dim=dimension)
            sums[name] += float(similar.sum())
            places[name] += similar.numel()

        return hook

    handles = []
    for name in sums:
        module = model.get_submodule(name)
        handles += [module.register_forward_pre_hook(before(name)), module.register_forward_hook(after(name))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
