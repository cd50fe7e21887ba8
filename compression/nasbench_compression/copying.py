"""Copies of networks that `copy.deepcopy` refuses, or from which it leaves a way back into the original."""

from __future__ import annotations

import copy
import functools
import inspect
import types
import weakref
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nasbench_registry import UserError

HOOKS = (
    *("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"),
    *("_state_dict_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)
"""Where `torch.nn.Module` keeps the functions that hang on it."""

_PARTS = ("_modules", "_parameters", "_buffers")


def copy_network(model: nn.Module) -> nn.Module:
    """A copy of a network that shares nothing with it.

    As `copy.deepcopy`, with two differences. A tensor that an operation made (a feature map that a module remembers,
    the weight of `torch.nn.utils.weight_norm`) is copied as its value. And functions that know modules of the network
    by their closure or arguments, such as hooks and a `forward` that was set on an instance, know those of the copy;
    with `copy.deepcopy` they go on computing with the original.

    Args:
        model: Network; it is not changed.

    Raises:
        UserError: The network holds something that has no copy; the message says where.
    """
    # Python's own modules, such as a library that a class keeps as an attribute, are shared.
    held = [value for module in model.modules() for value in (vars(module) | _slots(module)).values()]
    memo: dict[int, Any] = {id(value): value for value in held if isinstance(value, types.ModuleType)}
    as_values = _AsValues()  # lives as long as the memo, which knows its tensors by their ids
    try:
        with as_values:
            network = copy.deepcopy(model, memo)
            for module in model.modules():  # torch copies the dictionaries of modules only
                for name, value in _slots(module).items():
                    object.__setattr__(memo[id(module)], name, copy.deepcopy(value, memo))
    except Exception as error:  # whatever the objects raise that a user keeps in a module
        raise UserError(f"this network cannot be copied: {_culprit(model, error)}.") from error
    for parameter in network.parameters():
        if not parameter.is_leaf:  # TorchScript copies parameters as results of an operation
            parameter.detach_().requires_grad_()
    redirect = _Redirect(memo)
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if name in HOOKS or (isinstance(value, list | dict) and name not in _PARTS):
                redirect.inside(value)
        redirect.inside(vars(module))
        for name, value in _slots(module).items():
            object.__setattr__(module, name, redirect(value))
    return network


def _slots(module: nn.Module) -> dict[str, Any]:
    """What a module keeps in the `__slots__` of its class, which are not in its dictionary."""
    kind = type(module)
    if kind not in _SLOTS:  # a class has the same ones for all of its modules, and there are thousands
        _SLOTS[kind] = tuple(
            name for base in kind.__mro__ for name, slot in vars(base).items() if inspect.ismemberdescriptor(slot)
        )
    return {name: getattr(module, name) for name in _SLOTS[kind] if hasattr(module, name)}


_SLOTS: weakref.WeakKeyDictionary[type, tuple[str, ...]] = weakref.WeakKeyDictionary()


class _AsValues(TorchFunctionMode):
    """Copies tensors that an operation made, which know how they came about, as values."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Copy, or do what else is asked for."""
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            self.alive.append(tensor.detach())
            memo[id(tensor)] = copy.deepcopy(self.alive[-1], memo)
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


class _Redirect:
    """Makes references to what was copied references to the copies.

    Args:
        memo: Copy of each object by the id of the original, as `copy.deepcopy` filled it.
    """

    def __init__(self, memo: dict[int, Any]) -> None:
        self._memo = memo

    def inside(self, values: Any) -> None:
        """Redirect what a dictionary or a list holds, in place."""
        for key, value in list(values.items() if isinstance(values, dict) else enumerate(values)):
            if isinstance(value, types.FunctionType | functools.partial | weakref.ref):
                values[key] = self(value)
            elif isinstance(getattr(value, "hook", None), types.FunctionType):  # torch wraps some hooks
                value.hook = self(value.hook)

    def __call__(self, value: Any) -> Any:
        """The value, or, if it leads to something that was copied, what leads to the copy in its place."""
        if id(value) in self._memo:
            return self._memo[id(value)]
        if isinstance(value, weakref.ref):
            target = value()
            copied = self(target)
            return value if copied is target else weakref.ref(copied)
        if isinstance(value, types.MethodType):
            owner = self(value.__self__)
            return value if owner is value.__self__ else types.MethodType(value.__func__, owner)
        if isinstance(value, functools.partial):
            parts = self([value.func, value.args, value.keywords])
            same = parts[0] is value.func and parts[1] is value.args and parts[2] is value.keywords
            return value if same else functools.partial(parts[0], *parts[1], **parts[2])
        if type(value) in (list, tuple):
            items = [self(item) for item in value]
            same = all(item is old for item, old in zip(items, value, strict=True))
            return value if same else type(value)(items)
        if type(value) is dict:
            entries = {key: self(item) for key, item in value.items()}
            return value if all(entries[key] is item for key, item in value.items()) else entries
        if isinstance(value, types.FunctionType):
            return self._function(value)
        return value

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        cells = [types.CellType() for _ in function.__closure__ or ()]
        redirected = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, tuple(cells)
        )
        self._memo[id(function)] = redirected  # a function may know itself
        changed = False
        for cell, old in zip(cells, function.__closure__ or (), strict=True):
            try:
                content = old.cell_contents
            except ValueError:  # a name without a value yet
                continue
            cell.cell_contents = self(content)
            changed |= cell.cell_contents is not content and content is not function
        defaults, named = self(function.__defaults__), self(function.__kwdefaults__)
        if not changed and defaults is function.__defaults__ and named is function.__kwdefaults__:
            self._memo[id(function)] = function
            return function
        redirected.__defaults__, redirected.__kwdefaults__ = defaults, named
        redirected.__dict__.update(function.__dict__)
        return redirected


def _culprit(model: nn.Module, error: Exception) -> str:
    """Which attribute of which module cannot be copied, and why."""
    for path, module in model.named_modules():
        for name, value in (vars(module) | _slots(module)).items():
            if name in ("_modules", *HOOKS):
                continue
            try:
                with _AsValues():
                    copy.deepcopy(value)
            except Exception as reason:
                where = f"module {path!r}" if path else "the network itself"
                return (
                    f"{name!r} of {where}, a {type(value).__name__}, has no copy ({summary(reason)}); "
                    f"keep it outside of the module, or give its class a __deepcopy__"
                )
    return summary(error)


def summary(error: Exception) -> str:
    """Class and first line of an error, to be quoted in a sentence."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
