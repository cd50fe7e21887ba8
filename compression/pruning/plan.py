"""What has to be cut together when channels of one layer go, and the cutting itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Channels to be removed from one module or one bare parameter.

    Attributes:
        name: of the module, or of the parameter where `dimension` is set.
        handler: torch-pruning's function that removes the channels from a module of this kind.
        channels: positions in this module.
        produces: whether these are outputs of the module, not inputs.
        dimension: the dimension of a bare parameter; None for a module.
    """

    name: str
    handler: Callable[[Any, Sequence[int]], Any]
    channels: tuple[int, ...]
    produces: bool
    dimension: int | None = None


def trace(model: nn.Module, inputs: Tensor) -> tp.DependencyGraph:
    """Torch-pruning's graph of `model`, which gets evaluation mode and gradients: pass a copy."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    with torch.enable_grad(), warnings.catch_warnings():
        # The library warns that it guesses for bare parameters; a wrong guess is caught by the check.
        warnings.simplefilter("ignore")
        # Without a forward function it tries model(*inputs) first, which takes the batch for a list of arguments.
        return tp.DependencyGraph().build_dependency(
            model, inputs, forward_fn=lambda network, batch: network(batch), verbose=False
        )


def plan_cuts(graph: tp.DependencyGraph, layer: str, channels: Sequence[int]) -> tuple[Cut, ...]:
    """Everything that goes when these output channels of `layer` go."""
    root = graph.model.get_submodule(layer)
    group = graph.get_pruning_group(root, graph.get_pruner_of_module(root).prune_out_channels, list(channels))
    names = {module: name for name, module in graph.model.named_modules()}
    parameters = {id(parameter): name for name, parameter in graph.model.named_parameters()}
    cuts = []
    for dependency, positions in group:
        target = dependency.target.module
        if isinstance(target, nn.Parameter):
            name, dimension = parameters[id(target)], int(dependency.target.pruning_dim)
        elif target in names:
            name, dimension = names[target], None
        else:
            continue  # an operation without weights, such as an addition
        produces = dimension is not None or bool(graph.is_out_channel_pruning_fn(dependency.handler))
        unique = tuple(sorted({int(position) for position in positions}))
        cuts.append(Cut(name=name, handler=dependency.handler, channels=unique, produces=produces, dimension=dimension))
    return tuple(cuts)


def apply_cuts(model: nn.Module, cuts: Sequence[Cut]) -> None:
    """Remove the channels from `model`, in place."""
    for cut in cuts:
        if cut.dimension is None:
            cut.handler(model.get_submodule(cut.name), list(cut.channels))
            continue
        owner, _, attribute = cut.name.rpartition(".")
        module = model.get_submodule(owner)
        old: Tensor = getattr(module, attribute)
        kept = [index for index in range(old.shape[cut.dimension]) if index not in set(cut.channels)]
        index = torch.tensor(kept, device=old.device)
        setattr(module, attribute, nn.Parameter(old.detach().index_select(cut.dimension, index)))


def zero_cuts(model: nn.Module, cuts: Sequence[Cut]) -> None:
    """Make whatever produces these channels yield exactly zero for them, in place, with new tensors."""
    for cut in cuts:
        if not cut.produces:
            continue
        if cut.dimension is not None:
            owner, _, attribute = cut.name.rpartition(".")
            _zero(model.get_submodule(owner), attribute, cut.dimension, cut.channels)
            continue
        module = model.get_submodule(cut.name)
        transposed = getattr(module, "transposed", False)
        for name, _ in list(module.named_parameters(recurse=False)):
            _zero(module, name, 1 if transposed and name == "weight" else 0, cut.channels)
        if getattr(module, "running_mean", None) is not None:
            # A batch norm without learned scale still has to map zero to zero.
            _zero(module, "running_mean", 0, cut.channels)


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
            module.__dict__.update(attributes)
            module._parameters.clear()
            module._parameters.update(parameters)
            module._buffers.clear()
            module._buffers.update(buffers)
