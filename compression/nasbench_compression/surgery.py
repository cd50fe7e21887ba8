"""Putting another module in the place of one, without losing what hangs on it or what other code reads of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nasbench_compression.copying import HOOKS
from nasbench_compression.zeros import MARK, pass_mark


def attached(module: nn.Module) -> str | None:
    """What would be lost with this very module: its hooks, or a method that was set on the instance; None if nothing.

    Returns:
        A reason in words, such as "a forward hook (spy) hangs on it".
    """
    for name in HOOKS:
        for hook in vars(module).get(name, {}).values():
            kind = name.strip("_").removesuffix("s").replace("_", " ").replace("state dict", "state-dict")
            return f"{_article(kind)} {kind} ({_name(hook)}) hangs on it"
    replaced = [
        name for name, value in vars(module).items() if callable(value) and callable(getattr(type(module), name, 0))
    ]
    return f"its method {replaced[0]} was replaced on this instance" if replaced else None


def why_not_plain(layer: nn.Module, kinds: tuple[type[nn.Module], ...] = (nn.Conv2d, nn.Linear)) -> str | None:
    """Why a layer cannot be replaced or changed by one who knows only what a layer of `kinds` does; None if it can.

    A subclass may compute anything, and so may a hook or a weight that is computed from other parameters.

    Args:
        layer: Any module.
        kinds: Classes of which the layer's class must be one, exactly.
    """
    computed = why_computed(layer)
    if computed is not None:
        return computed
    if type(layer) not in kinds:
        meant = [kind.__name__ for kind in kinds if isinstance(layer, kind)] or [kind.__name__ for kind in kinds]
        kind = type(layer)
        name = f"{kind.__module__}.{kind.__name__}" if kind.__name__ in meant else kind.__name__
        return f"{_article(name)} {name} is no plain {' or '.join(meant)}"
    weight = layer._parameters.get("weight")
    reason = attached(layer)
    if reason is not None:
        return reason
    extra_parts = [*(name for name in layer._parameters if name not in ("weight", "bias")), *layer._modules]
    extra_parts += [name for name in layer._buffers if name not in _STATISTICS]
    if extra_parts:
        return f"it has a part of its own besides weight and bias ({extra_parts[0]})"
    if weight is not None and type(weight) is not nn.Parameter:
        return f"its weight is a {type(weight).__name__}"
    if weight is not None and not weight.is_floating_point():
        return f"its weight is of type {str(weight.dtype).removeprefix('torch.')}"
    return None


def why_computed(layer: nn.Module) -> str | None:
    """From what its weight, or another tensor, is computed whenever it is read; None if none is."""
    if parametrize.is_parametrized(layer):
        computed, parametrizations = next(iter(layer._modules["parametrizations"].named_children()))  # type: ignore[union-attr]  # it has them
        rules = ", ".join(type(rule).__name__.strip("_") for rule in parametrizations.children())
        return f"its {computed} is computed from other parameters (by the parametrization {rules})"
    if isinstance(vars(layer).get("weight"), Tensor):
        rules = ", ".join(_name(hook) for hook in layer._forward_pre_hooks.values())
        return f"its weight is computed from other parameters{f' (by {rules})' if rules else ''}"
    return None


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def _article(noun: str) -> str:
    spelled = len(noun) > 1 and noun[:2].isupper()  # an LSTM
    return "an" if noun[0] in ("AEFHILMNORSX" if spelled else "AEIOUaeiou") else "a"


def _name(hook: Any) -> str:
    hook = getattr(hook, "hook", hook)  # torch wraps those that know their module
    name = getattr(hook, "__name__", type(hook).__name__)
    return "a lambda" if name == "<lambda>" else str(name)


def keep_attributes(old: nn.Module, new: nn.Module) -> None:
    """Give `new` the plain attributes of `old` that it has no value of, such as `in_channels` or one that a user set.

    Code that reads them of the layer goes on reading them. Parameters, buffers and submodules stay with `old`.
    """
    for name, value in vars(old).items():
        if name != MARK and name not in vars(new) and not isinstance(getattr(type(new), name, None), property):
            vars(new)[name] = value


class StandIn(nn.Module):
    """Takes the place of a layer and answers for it: what other code reads of the layer, it finds here.

    Networks read their layers: `x.to(self.stem.weight.dtype)`, `x[:, :self.head.in_features]`, a cosine classifier that
    divides by the norm of its weight. Subclasses say what the weight is now.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        keep_attributes(layer, self)
        self.train(layer.training)

    @property
    def weight(self) -> Tensor:
        """The weight that the layer would have, in its shape and type, to compute what this module does."""
        raise NotImplementedError


class Echo(StandIn):
    """Computes what `layer` does, by `layer` itself, to see whether a network bears another module in its place.

    Attributes:
        calls: Number of its calls.
        reads: Number of times that other code read its weight.
    """

    calls: int
    reads: int

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        vars(self).update(calls=0, reads=0)
        vars(self)["_layer"] = layer  # no submodule: its parameters are not to be found here
        for name in ("bias", "eps", *_STATISTICS):
            if hasattr(layer, name) and name not in vars(self):
                vars(self)[name] = getattr(layer, name)

    @property
    def weight(self) -> Tensor:
        """The weight of the layer itself."""
        self.reads += 1
        weight: Tensor = vars(self)["_layer"].weight
        return weight

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer computes."""
        self.calls += 1
        return vars(self)["_layer"].forward(*args, **kwargs)


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put `new` wherever `old` is; see `replace_modules`."""
    return replace_modules(model, {old: new})


def replace_modules(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put modules wherever others are, under each of their names; returns the network, which is new if it was one.

    Plain attributes, lists, tuples and dicts of the modules that hold an old one get the new one, too. A weight of the
    same name and shape in both stays sparse if it was: see `nasbench_compression.zeros`.
    """
    for old, new in replacements.items():
        pass_mark(old, new)

    def now(value: Any) -> Any:
        return replacements.get(value, value) if isinstance(value, nn.Module) else value

    for parent in list(model.modules()):
        if parent in replacements:
            continue
        for name, child in list(parent._modules.items()):  # named_children() leaves out a second name
            if child is not None and child in replacements:
                setattr(parent, name, replacements[child])
        for name, value in list(vars(parent).items()):
            if isinstance(value, nn.Module):
                vars(parent)[name] = now(value)
            elif type(value) is list:
                value[:] = [now(item) for item in value]
            elif type(value) is tuple and any(isinstance(item, nn.Module) for item in value):
                vars(parent)[name] = tuple(now(item) for item in value)
            elif type(value) is dict and name not in ("_modules", "_parameters", "_buffers"):
                value.update({key: now(item) for key, item in value.items() if isinstance(item, nn.Module)})
    return replacements.get(model, model)


@contextlib.contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each module gets its own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    with contextlib.suppress(NotImplementedError):  # of a program of torch.export, which has one mode only
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
