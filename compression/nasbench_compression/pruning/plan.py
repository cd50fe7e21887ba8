"""What has to be cut together when channels of one layer go, and the cutting itself."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression.pruning.ties import Graph, Tie, find_ties


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Channels to be removed from one module or one bare parameter.

    Attributes:
        name: of the module, or of the parameter where `dimension` is set.
        handler: torch-pruning's function that removes the channels from a module of this kind.
        channels: positions in this module.
        produces: whether these are outputs of the module, not inputs.
        dimension: the dimension of a bare parameter; None for a module.
        roots: the channel of the group that each position belongs to; as many as `channels`.
    """

    name: str
    handler: Callable[[Any, Sequence[int]], Any]
    channels: tuple[int, ...]
    produces: bool
    dimension: int | None = None
    roots: tuple[int, ...] = ()


def trace(model: nn.Module, inputs: Tensor) -> tp.DependencyGraph:
    """Torch-pruning's graph of `model`, which gets evaluation mode and gradients: pass a copy."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    with torch.enable_grad(), warnings.catch_warnings():
        # The library warns that it guesses for bare parameters; a wrong guess is caught by the check.
        warnings.simplefilter("ignore")
        # Without a forward function it tries model(*inputs) first, which takes the batch for a list of arguments.
        return Graph().build_dependency(model, inputs, forward_fn=_with_dead_ends, verbose=False)


def _with_dead_ends(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """The output of the network, and those of layers whose result nothing reads, which still have to fit."""
    ran: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.grad_fn is not None:
            ran.append((module, output))

    leaves = [module for module in model.modules() if next(module.parameters(recurse=False), None) is not None]
    hooks = [module.register_forward_hook(keep) for module in leaves]
    try:
        logits = model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    parameters = [next(module.parameters(recurse=False)) for module, _ in ran]
    if not parameters:
        return [logits]
    found = torch.autograd.grad(logits.sum(), parameters, retain_graph=True, allow_unused=True)
    return [logits, *(output for (_, output), gradient in zip(ran, found, strict=True) if gradient is None)]


def plan_cuts(graph: tp.DependencyGraph, layer: str) -> tuple[tuple[Cut, ...], tuple[Tie, ...]]:
    """Everything that goes when all output channels of `layer` go, see `restrict`; and what has to go together.

    Raises:
        RuntimeError: torch-pruning does not know which channel of the layer a position belongs to.
    """
    root = graph.model.get_submodule(layer)
    pruner = graph.get_pruner_of_module(root)
    channels = list(range(int(pruner.get_out_channels(root))))
    group = graph.get_pruning_group(root, pruner.prune_out_channels, channels)
    names = {module: name for name, module in graph.model.named_modules()}
    parameters = {id(parameter): name for name, parameter in graph.model.named_parameters()}
    cuts = []
    for item in group:
        dependency, target = item.dep, item.dep.target.module
        if isinstance(target, nn.Parameter):
            name, dimension = parameters[id(target)], int(dependency.target.pruning_dim)
        elif target in names:
            name, dimension = names[target], None
        else:
            continue  # an operation without weights, such as an addition
        if any(root is None for root in item.root_idxs):
            raise RuntimeError(f"it is unknown which channels of {layer} positions in {name} belong to")
        produces = dimension is not None or bool(graph.is_out_channel_pruning_fn(dependency.handler))
        cuts.append(
            Cut(
                name=name,
                handler=dependency.handler,
                channels=tuple(int(position) for position in item.idxs),
                produces=produces,
                dimension=dimension,
                roots=tuple(int(root) for root in item.root_idxs),
            )
        )
    return tuple(cuts), find_ties(graph, group)


def restrict(cuts: Sequence[Cut], removed: Sequence[int]) -> tuple[Cut, ...]:
    """Only what goes with these channels of the group."""
    wanted = set(removed)
    made = []
    for cut in cuts:
        pairs = [(c, root) for c, root in zip(cut.channels, cut.roots, strict=True) if root in wanted]
        if pairs:
            channels, roots = zip(*pairs, strict=True)
            made.append(replace(cut, channels=channels, roots=roots))
    return tuple(made)


def merge(cuts: Iterable[Cut]) -> tuple[Cut, ...]:
    """One cut for each module and side: positions are those of the uncut network, so all have to be cut at once."""
    joined: dict[tuple[Any, ...], Cut] = {}
    for cut in cuts:
        key = (cut.name, getattr(cut.handler, "__func__", cut.handler), cut.produces, cut.dimension)
        seen = joined[key].channels if key in joined else ()
        channels = tuple(sorted({*seen, *cut.channels}))
        joined[key] = replace(cut, channels=channels, roots=())
    return tuple(joined.values())


def apply_cuts(model: nn.Module, cuts: Sequence[Cut]) -> None:
    """Remove the channels from `model`, in place; `cuts` as `merge` gives them."""
    for cut in cuts:
        if cut.dimension is None:
            cut.handler(model.get_submodule(cut.name), list(cut.channels))
            continue
        owner, _, attribute = cut.name.rpartition(".")
        module = model.get_submodule(owner)
        old: Tensor = getattr(module, attribute)
        index = torch.tensor(_kept(old.shape[cut.dimension], cut.channels), device=old.device)
        setattr(module, attribute, nn.Parameter(old.detach().index_select(cut.dimension, index)))


def zero_cuts(model: nn.Module, cuts: Sequence[Cut]) -> None:
    """Make whatever produces these channels yield exactly zero for them, in place, with new tensors.

    Layers that normalize over channels normalize over those that are left, as they will in the cut network.
    """
    for cut in cuts:
        if not cut.produces:
            continue
        if cut.dimension is not None:
            owner, _, attribute = cut.name.rpartition(".")
            _zero(model.get_submodule(owner), attribute, cut.dimension, cut.channels)
            continue
        module = model.get_submodule(cut.name)
        if isinstance(module, nn.LayerNorm | nn.GroupNorm):
            module.forward = functools.partial(_normalize_rest, module, cut.channels)  # type: ignore[method-assign]
            continue
        transposed = getattr(module, "transposed", False)
        for name, _ in list(module.named_parameters(recurse=False)):
            _zero(module, name, 1 if transposed and name == "weight" else 0, cut.channels)
        if getattr(module, "running_mean", None) is not None:
            # A batch norm without learned scale still has to map zero to zero.
            _zero(module, "running_mean", 0, cut.channels)


def _kept(size: int, removed: Sequence[int]) -> list[int]:
    gone = set(removed)
    return [position for position in range(size) if position not in gone]


def _normalize_rest(module: nn.LayerNorm | nn.GroupNorm, removed: Sequence[int], x: Tensor) -> Tensor:
    dimension = -1 if isinstance(module, nn.LayerNorm) else 1
    index = torch.tensor(_kept(x.shape[dimension], removed))
    weight, bias = (None if tensor is None else tensor[index] for tensor in (module.weight, module.bias))
    rest = x.index_select(dimension, index)
    if isinstance(module, nn.LayerNorm):
        rest = functional.layer_norm(rest, (len(index),), weight, bias, module.eps)
    else:
        rest = functional.group_norm(rest, module.num_groups, weight, bias, module.eps)
    return torch.zeros_like(x).index_copy(dimension, index, rest)


def _zero(module: nn.Module, name: str, dimension: int, channels: Sequence[int]) -> None:
    old: Tensor = getattr(module, name)
    index = torch.tensor(channels, device=old.device)
    new = old.detach().index_fill(dimension, index, 0)
    setattr(module, name, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)


class Undo:
    """Puts the modules that these cuts touch back to what they are now.

    Copying the network for each trial would take most of the time of pruning. Cutting and zeroing replace tensors
    and sizes and never write into a tensor, so that the old ones are enough.
    """

    def __init__(self, model: nn.Module, cuts: Sequence[Cut]) -> None:
        names = {cut.name if cut.dimension is None else cut.name.rpartition(".")[0] for cut in cuts}
        touched = {part for name in names for part in model.get_submodule(name).modules()}
        self._saved = [
            (module, dict(vars(module)), dict(module._parameters), dict(module._buffers)) for module in touched
        ]

    def __call__(self) -> None:
        """Restore."""
        for module, attributes, parameters, buffers in self._saved:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            module._parameters.clear()
            module._parameters.update(parameters)
            module._buffers.clear()
            module._buffers.update(buffers)
