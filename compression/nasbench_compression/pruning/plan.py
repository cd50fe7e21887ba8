"""Channels that go, as cuts of modules and tensors, and the cutting itself."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

KNOWN = (
    *(nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm),
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU, nn.Embedding, nn.RNNBase),
)
"""Modules whose sizes the functions that cut them keep."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Channels to be removed from one module, or from one bare parameter or buffer.

    Attributes:
        name: Name of the module, or of the tensor where `dimension` is set.
        handler: Torch-pruning's function that removes the channels from a module of this kind; None for a tensor.
        channels: Positions of the channels in this module.
        produces: Whether the channels are outputs of the module, not inputs.
        dimension: Dimension of a bare tensor along which the channels lie; None for a module.
        roots: Unit of the group that each position belongs to, one for each of the `channels`.
    """

    name: str
    handler: Callable[[Any, list[int]], Any] | None
    channels: tuple[int, ...]
    produces: bool
    dimension: int | None = None
    roots: tuple[int, ...] = ()


def restrict(cuts: Sequence[Cut], removed: Sequence[int]) -> tuple[Cut, ...]:
    """The cuts, reduced to the positions that belong to these units of the group."""
    units = set(removed)
    restricted = []
    for cut in cuts:
        pairs = [(c, root) for c, root in zip(cut.channels, cut.roots, strict=True) if root in units]
        if pairs:
            channels, roots = zip(*pairs, strict=True)
            restricted.append(replace(cut, channels=channels, roots=roots))
    return tuple(restricted)


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
    """Remove the channels from `model`, in place; `cuts` as `merge` gives them.

    What is trained, and which modules share one parameter, stays as it was.

    Raises:
        Uncut: Modules that share a parameter would keep different parts of it.
    """
    places = [(module, key) for module in model.modules() for key, old in module._parameters.items() if old is not None]
    before = [module._parameters[key] for module, key in places]
    echoes = _echoes(model)
    for cut in cuts:
        if cut.handler is not None:
            cut.handler(model.get_submodule(cut.name), list(cut.channels))
            continue
        assert cut.dimension is not None, "what has no handler is a tensor"
        module, attribute = _owner(model, cut.name)
        whole: Tensor = getattr(module, attribute)
        size = whole.shape[cut.dimension]
        index = torch.tensor(_remaining(size, cut.channels), device=whole.device)
        _set(module, attribute, whole.detach().index_select(cut.dimension, index))
        for name, value in [] if isinstance(module, KNOWN) else list(vars(module).items()):
            # A norm of another library, say, that keeps the shape of its scale.
            if type(value) in (int, tuple) and size in (value if type(value) is tuple else (value,)):
                vars(module)[name] = _replaced(value, size, len(index))
    shared: dict[int, nn.Parameter] = {}
    for (module, key), old in zip(places, before, strict=True):
        new = module._parameters[key]
        if new is None or old is None:
            continue
        first = shared.setdefault(id(old), new)
        if first is not new:
            if first.shape != new.shape or not torch.equal(first, new):
                raise Uncut(f"modules share {key!r} of a {type(module).__name__}, and would keep different parts of it")
            module._parameters[key] = first
        if new is not old:
            new.requires_grad_(old.requires_grad)
    for echo in echoes:
        echo.follow()


_NUMBERS = {
    **dict.fromkeys(("in_chs", "in_channels"), "in_channels"),
    **dict.fromkeys(("out_chs", "out_channels"), "out_channels"),
    "groups": "groups",
}
"""Names under which blocks keep a number of their convolutions, and the name that it has there."""


@dataclass(frozen=True)
class _Echo:
    """A number that a block keeps of its convolutions, or a list with one of each."""

    block: nn.Module
    name: str
    layers: tuple[nn.Module, ...]
    number: str

    def follow(self) -> None:
        """Make it what it is in the layers now, where they agree."""
        value, now = vars(self.block)[self.name], [getattr(layer, self.number) for layer in self.layers]
        if isinstance(value, list | tuple):
            vars(self.block)[self.name] = type(value)(now)
        elif len(set(now)) == 1:
            vars(self.block)[self.name] = now[0]


def _echoes(model: nn.Module) -> list[_Echo]:
    """Numbers of blocks that have to follow when their convolutions are cut.

    Such as how a mixed convolution splits its input, or what a block needs to know for merging its branches. A number
    is known by its name and by the layers below that have it, a list by the block's own layers, which have it in order.
    """
    convolutions = nn.modules.conv._ConvNd
    echoes = []
    for block in model.modules():
        if isinstance(block, KNOWN):
            continue
        for name, value in vars(block).items():
            if type(value) is int and name in _NUMBERS:
                number = _NUMBERS[name]
                below = [layer for layer in block.modules() if isinstance(layer, convolutions)]
                layers = tuple(layer for layer in below if getattr(layer, number) == value)
                if layers:
                    echoes.append(_Echo(block, name, layers, number))
            elif type(value) in (list, tuple) and len(value) > 1 and all(type(item) is int for item in value):
                layers = tuple(layer for layer in block.children() if isinstance(layer, convolutions))
                for number in ("in_channels", "out_channels"):
                    if [getattr(layer, number) for layer in layers] == list(value):
                        echoes.append(_Echo(block, name, layers, number))
                        break
    return echoes


def _replaced(value: int | tuple[Any, ...], old: int, new: int) -> int | tuple[Any, ...]:
    return tuple(new if item == old else item for item in value) if isinstance(value, tuple) else new


class Uncut(RuntimeError):
    """A cut that is impossible; the message says why, in words."""


def zero_cuts(model: nn.Module, cuts: Sequence[Cut]) -> None:
    """Make whatever produces these channels yield exactly zero for them, in place, with new tensors.

    Layers that normalize over channels normalize over those that are left, as they will in the cut network.
    """
    for cut in cuts:
        if not cut.produces:
            continue
        if cut.dimension is not None:
            module, attribute = _owner(model, cut.name)
            _zero(module, attribute, cut.dimension, cut.channels)
            continue
        module = model.get_submodule(cut.name)
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
            module.forward = functools.partial(_normalize_rest, module.forward, cut.channels)  # type: ignore[method-assign]
            continue
        if isinstance(module, nn.modules.conv._ConvTransposeNd) and module.groups > 1:
            _zero_outputs(module, cut.channels)
            continue
        second = getattr(module, "transposed", False) or isinstance(module, nn.Embedding)
        for name in ("weight", "bias"):
            if module._parameters.get(name) is not None:
                _zero(module, name, 1 if second and name == "weight" else 0, cut.channels)
        if getattr(module, "running_mean", None) is not None:
            # A batch norm without learned scale still has to map zero to zero.
            _zero(module, "running_mean", 0, cut.channels)


def _remaining(size: int, removed: Sequence[int]) -> list[int]:
    gone = set(removed)
    return [position for position in range(size) if position not in gone]


def _normalize_rest(forward: Callable[..., Any], removed: Sequence[int], *args: Any, **kwargs: Any) -> Any:
    """What the `forward` of a norm gives without these channels, and zero for them."""
    with _NormalizeRest(removed):
        return forward(*args, **kwargs)


class _NormalizeRest(TorchFunctionMode):
    """Lets norms over channels leave some of them out; wherever in a module they are, for a subclass may permute."""

    def __init__(self, removed: Sequence[int]) -> None:
        super().__init__()
        self._removed = removed

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function."""
        kwargs = kwargs or {}
        if func not in _NORMS:
            return func(*args, **kwargs)
        x, count, *parameters = args
        dimension = 1 if func in _GROUP_NORMS else -1
        index = torch.tensor(_remaining(x.shape[dimension], self._removed))
        parameters = [value[index] if isinstance(value, Tensor) else value for value in parameters]
        kwargs = {key: value[index] if isinstance(value, Tensor) else value for key, value in kwargs.items()}
        rest = x.index_select(dimension, index)
        rest = func(rest, count if func in _GROUP_NORMS else (len(index),), *parameters, **kwargs)
        return torch.zeros_like(x).index_copy(dimension, index, rest)


_GROUP_NORMS = (torch.group_norm, functional.group_norm)
_NORMS = (*_GROUP_NORMS, torch.layer_norm, functional.layer_norm, torch.rms_norm, functional.rms_norm)


def _zero(module: nn.Module, name: str, dimension: int, channels: Sequence[int]) -> None:
    old: Tensor = getattr(module, name)
    index = torch.tensor(channels, device=old.device)
    _set(module, name, old.detach().index_fill(dimension, index, 0))


def _zero_outputs(module: nn.modules.conv._ConvTransposeNd, channels: Sequence[int]) -> None:
    """Of a transposed convolution with groups, whose weights are (inputs, outputs / groups, ...)."""
    weight, groups = module.weight, module.groups
    mask = torch.ones(groups * weight.shape[1], dtype=weight.dtype, device=weight.device)
    mask[list(channels)] = 0
    rows = mask.view(groups, 1, -1).expand(-1, len(weight) // groups, -1).reshape(weight.shape[:2])
    _set(module, "weight", weight.detach() * rows.view(*rows.shape, *[1] * (weight.ndim - 2)))
    if module.bias is not None:
        _zero(module, "bias", 0, channels)


def _owner(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    owner, _, attribute = path.rpartition(".")
    return model.get_submodule(owner), attribute


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    """Put a tensor in the place of a parameter or a buffer."""
    setattr(module, name, nn.Parameter(value) if name in module._parameters else value)


class Undo:
    """Puts a network back to what it is now.

    Copying it for each trial would take most of the time of pruning. Cutting and zeroing replace tensors and sizes and
    never write into a tensor, so that the old ones are enough; and so are lists of them, such as the one that an LSTM
    keeps besides its parameters, and what modules remember of their last inputs.
    """

    def __init__(self, model: nn.Module) -> None:
        self._saved = [(values, _contents(values)) for module in model.modules() for values in _state(module)]

    def __call__(self) -> None:
        """Restore."""
        for values, contents in self._saved:
            values.clear()
            values.update(contents) if isinstance(values, dict) else values.extend(contents)


def _state(module: nn.Module) -> list[dict[str, Any] | list[Any]]:
    """Everything that a module keeps, and the lists and dicts in it."""
    inside = [value for value in vars(module).values() if type(value) in (dict, OrderedDict, list)]
    return [vars(module), *inside]


def _contents(values: dict[str, Any] | list[Any]) -> dict[str, Any] | list[Any]:
    return dict(values) if isinstance(values, dict) else list(values)
