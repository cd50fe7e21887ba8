"""How much each layer of a network bears: accuracy with one layer changed and all others as they are.

Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, arXiv:1608.08710 (section 3.2), prune one layer at a time
and do not train the network again; here decomposition and the bits of the weights are tried in the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasbench_compression.checks import check_number
from nasbench_compression.copying import copy_network
from nasbench_compression.decomposition.decomposable import DecomposableLayer, find_decomposable
from nasbench_compression.decomposition.decompose import METHODS
from nasbench_compression.decomposition.method import decompose_layer
from nasbench_compression.decomposition.ranks import by_ratio
from nasbench_compression.pruning.coupling import OUTPUT, ROOTS
from nasbench_compression.pruning.importances import IMPORTANCES
from nasbench_compression.pruning.ranking import choose
from nasbench_compression.pruning.rounds import Ranking, Round
from nasbench_compression.quantization.modules import per_channel, weight_levels
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.step import Context, device_of, given, seeded
from nasbench_compression.surgery import inference, replace_module, why_not_plain
from nasbench_registry import UserError, one_of

TECHNIQUES = {
    "prune": "share of the channels removed",
    "decompose": "share of the weights kept",
    "quantize": "bits of the weights",
}
"""Techniques that can change a layer, each with the meaning of its settings."""

Change = Callable[[float], nn.Module | str]
"""The network with one layer changed to a setting, or why there is none."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """Result of one layer at one setting.

    Attributes:
        setting: Ratio, share or bits, see `TECHNIQUES`.
        val_acc_pct: Validation accuracy of the network with this layer changed; None if it cannot be changed so.
        reason: Reason why the layer cannot be changed so; None if it can.
    """

    setting: float
    val_acc_pct: float | None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """Results of one layer at all settings.

    Attributes:
        layer: Name of the layer in the network.
        coupled: Names of the layers that change with it, because their channels are cut together.
        weights: Number of weights of this layer and the coupled ones, biases left out.
        tried: Result of each setting, in the order of the settings.
    """

    layer: str
    coupled: tuple[str, ...]
    weights: int
    tried: tuple[Tried, ...]


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Effect of one technique on each layer.

    Attributes:
        technique: One of `TECHNIQUES`.
        layers: Layers in the order of the network.
        left_out: Layers that cannot be changed, each with the reason.
    """

    technique: str
    layers: tuple[LayerSensitivity, ...]
    left_out: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class _Layer:
    name: str
    coupled: tuple[str, ...] = ()
    weights: int
    change: Change


_Layers = tuple[list[_Layer], dict[str, str]]


def sensitivity(
    model: nn.Module,
    context: Context,
    technique: str,
    settings: Sequence[float],
    *,
    importance: str = "l2",
    method: str = "svd",
    on_progress: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Validation accuracy with one layer at a time changed, without fine-tuning.

    "prune" removes the least important share of a layer's channels, with all that is coupled to them, as the step
    `prune` would with this layer alone. "decompose" writes the layer as a chain with at most a share of its weights, as
    the step `decompose`. "quantize" rounds the weights of a layer to so many bits, symmetric with one scale for each
    output channel; its inputs stay as they are. To fold batch norm first, as the step `quantize` does, would change
    nothing, for that multiplies a channel by a number, and its scale with it.

    Branches that merge for deployment (`reparameterize`) are merged for "decompose" and "quantize", as in those steps.

    Args:
        model: Network; it is not changed.
        context: Context whose `evaluate` gives the accuracy; "prune" may need its `calibration` and `labels`.
        technique: One of `TECHNIQUES`.
        settings: Shares above 0 and below 1, or from 2 to 16 bits.
        importance: Importance by which channels are ranked, for "prune".
        method: Method of decomposition, for "decompose".
        on_progress: Function that is called with the number of settings done and the number of all.

    Raises:
        UserError: A name or a setting is none of those.
    """
    one_of("technique", technique, TECHNIQUES)
    one_of("importance", importance, IMPORTANCES)
    one_of("method", method, METHODS)
    if not settings:
        raise UserError(f"there are no settings for {technique}; give at least one {TECHNIQUES[technique]}.")
    for setting in settings:
        if technique == "quantize":
            check_number(TECHNIQUES[technique], setting, at_least=2, at_most=16, integer=True)
        else:
            check_number(TECHNIQUES[technique], setting, above=0, below=1)
    needs = IMPORTANCES[importance].needs if technique == "prune" else ()
    context.require("sensitivity", ("evaluate", *needs))
    evaluate = given(context.evaluate)
    with seeded(context.seed, device=device_of(model)):
        if technique == "prune":
            candidates, left_out = _prunable(model, context, importance)
        elif technique == "decompose":
            candidates, left_out = _decomposable(model, context, method)
        else:
            candidates, left_out = _quantizable(model, context)
        layers = []
        for number, layer in enumerate(candidates):
            tried = []
            for position, setting in enumerate(settings):
                changed = layer.change(setting)
                if isinstance(changed, str):
                    tried.append(Tried(setting=setting, val_acc_pct=None, reason=changed))
                else:
                    tried.append(Tried(setting=setting, val_acc_pct=evaluate(changed)))
                if on_progress is not None:
                    on_progress(number * len(settings) + position + 1, len(candidates) * len(settings))
            reasons = [trial.reason for trial in tried if trial.reason is not None]
            if len(reasons) == len(tried):
                left_out[layer.name] = reasons[0]
                continue
            layers.append(
                LayerSensitivity(layer=layer.name, coupled=layer.coupled, weights=layer.weights, tried=tuple(tried))
            )
    return Sensitivity(technique=technique, layers=tuple(layers), left_out=left_out)


def fake_quantize(weight: Tensor, bits: int) -> Tensor:
    """A weight (out_channels, ...) rounded to `bits`, symmetric, with one scale for each output channel.

    Levels run from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1: of 2 bits, three are used.
    """
    levels, scale = weight_levels(weight, bits)
    return levels * per_channel(scale, weight.ndim)


def _prunable(model: nn.Module, context: Context, importance: str) -> _Layers:
    ranking = Ranking(
        importance=importance, round_to=None, global_ranking=False, exclude=(), heads=True, calibration_images=64
    )
    pruning_round = Round.of(model, context, ranking, torch.Generator().manual_seed(context.seed))

    def change(index: int, ratio: float) -> nn.Module | str:
        group = pruning_round.groups[index]
        (removed,) = choose([group], [pruning_round.scores[index]], ratio, None, global_ranking=False)
        if not removed:
            return f"none of its {group.size * group.share} channels goes at a ratio of {ratio}"
        reason = pruning_round.probe.why_wrong(group.without(removed))
        if reason is not None:
            return reason
        chosen: list[list[int]] = [[] for _ in pruning_round.groups]
        chosen[index] = removed
        # A round notes the groups that it leaves whole, which are all others here.
        return dataclasses.replace(pruning_round, left_out={}).cut(chosen)[0]

    layers = [
        _Layer(
            name=group.layer,
            coupled=tuple(member for member in group.members if member != group.layer),
            weights=sum(_weights(model, member) for member in {group.layer, *group.members}),
            change=lambda ratio, index=index: change(index, ratio),  # type: ignore[misc]  # the index is bound now
        )
        for index, group in enumerate(pruning_round.groups)
    ]
    left_out = dict(pruning_round.left_out)
    covered = {name for layer in layers for name in (layer.name, *layer.coupled)}
    for name, module in model.named_modules():
        if isinstance(module, ROOTS) and name not in covered:
            left_out.setdefault(name, OUTPUT)
    return layers, left_out


def _decomposable(model: nn.Module, context: Context, method_name: str) -> _Layers:
    method = METHODS[method_name]
    merged = reparameterize(model)
    images = context.example_inputs.to(device_of(model))
    candidates, left_out = find_decomposable(merged, method, (), images, context.seed)

    def change(candidate: DecomposableLayer, share: float) -> nn.Module | str:
        ranks = by_ratio(method, candidate, share)
        if isinstance(ranks, str):
            return ranks
        chain, _ = decompose_layer(method, candidate.layer, ranks, candidate.seed)
        network = copy_network(merged)
        return replace_module(network, network.get_submodule(candidate.name), chain)

    layers = [
        _Layer(
            name=candidate.name,
            weights=candidate.layer.weight.numel(),
            change=lambda share, candidate=candidate: change(candidate, share),  # type: ignore[misc]  # bound now
        )
        for candidate in candidates
    ]
    for name, module in merged.named_modules():
        if isinstance(module, ROOTS) and name not in {candidate.name for candidate in candidates}:
            left_out.setdefault(name, f"method {method_name} has no form for a {type(module).__name__}")
    return layers, left_out


def _quantizable(model: nn.Module, context: Context) -> _Layers:
    """The layers whose weights the step `quantize` rounds."""
    merged = reparameterize(model)
    ran: set[nn.Module] = set()
    plain = {name: module for name, module in merged.named_modules() if why_not_plain(module) is None}
    handles = [module.register_forward_pre_hook(lambda module, args: ran.add(module)) for module in plain.values()]
    try:
        with inference(merged):
            merged(context.example_inputs[:1].to(device_of(model)))
    finally:
        for handle in handles:
            handle.remove()

    def change(name: str, bits: float) -> nn.Module:
        network = copy_network(merged)
        weight = network.get_submodule(name).weight
        assert isinstance(weight, Tensor), "a plain layer has a weight"
        with torch.no_grad():
            weight.copy_(fake_quantize(weight, int(bits)))
        return network

    layers, left_out, owners = [], {}, dict[int, str]()
    for name, module in merged.named_modules():
        if not isinstance(module, ROOTS):
            continue
        if name not in plain:
            left_out[name] = f"{why_not_plain(module)}, so it stays in float"
        elif module not in ran:
            left_out[name] = "no image passes it as a module"
        elif (first := owners.setdefault(id(module.weight), name)) != name:
            left_out[name] = f"its weight is that of {first}"
        else:
            layers.append(
                _Layer(
                    name=name,
                    weights=module.weight.numel(),
                    change=lambda bits, name=name: change(name, bits),  # type: ignore[misc]  # the name is bound now
                )
            )
    return layers, left_out


def _weights(model: nn.Module, name: str) -> int:
    weight = getattr(model.get_submodule(name), "weight", None)
    return weight.numel() if isinstance(weight, Tensor) else 0
