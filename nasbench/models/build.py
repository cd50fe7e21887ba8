"""How the network of a stored model is built before its steps are restored and its weights are loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from nasbench_registry import Names, UserError
from search_spaces import Architecture, SearchSpace, Task, get_space

LONGEST = 200  # characters of an option that are shown


@dataclass(frozen=True)
class SpaceBuild:
    """A network is an architecture of a search space.

    Attributes:
        space: Name of the space.
        options: Options of the space.
        arch: Architecture of the network.
    """

    space: str
    options: Mapping[str, Any]
    arch: Architecture

    def make_space(self) -> SearchSpace:
        """The space; UserError if it is not to be had."""
        return get_space(self.space, **self.options)

    @property
    def text(self) -> str:
        """The notation of the architecture."""
        return self.make_space().format(self.arch)

    @property
    def code(self) -> object:
        """The code that builds it, see `code_digests`."""
        return self.make_space()

    def network(self, task: Task) -> nn.Module:
        """A new network for a task."""
        return self.make_space().build(self.arch, task)

    def to_json(self) -> dict[str, Any]:
        """The keys `space` and `architecture` of a `model.json`."""
        return {
            "space": {"name": self.space, **self.options},
            "architecture": {"text": self.text, "picks": list(self.arch.picks)},
        }


@dataclass(frozen=True)
class FunctionBuild:
    """A network is what a function or a class gives, such as ``timm:create_model``.

    Attributes:
        function: ``module:function`` or ``module:Class``.
        options: Keyword arguments, JSON values.
    """

    function: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The call, in a line."""
        options = ", ".join(f"{name}={_short(value)}" for name, value in self.options.items())
        return f"{self.function}({options})"

    @property
    def code(self) -> object:
        """The code that builds it, see `code_digests`."""
        return builders.find(self.function), self.options

    def network(self, task: Task) -> nn.Module:
        """See `call`: what the network takes and gives is the function's own business."""
        return self.call()

    def call(self) -> nn.Module:
        """A new network.

        Raises:
            UserError: There is no such function, it refuses the options, or gives no network.
        """
        make = builders.find(self.function)
        try:
            network = make(**self.options)
        except UserError:
            raise
        except Exception as error:
            words = " ".join(str(error).split()) or "no message"
            raise UserError(f"build {self.text} fails: {type(error).__name__}: {words}") from error
        if not isinstance(network, nn.Module):
            raise UserError(f"build {self.function!r} gives a {type(network).__name__}, and not a torch.nn.Module.")
        return network

    def to_json(self) -> dict[str, Any]:
        """The key `build` of a `model.json`."""
        return {"build": {"function": self.function, "options": dict(self.options)}}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


Build = SpaceBuild | FunctionBuild


class _Builders(Names[Callable[..., Any]]):
    """Functions and classes that build networks."""

    attribute = "function"

    def _checked(self, name: str, value: object) -> Callable[..., Any]:
        if not callable(value):
            raise UserError(f"build {name!r} is {value!r}; name a function that returns a network.")
        return value

    def _offers(self, value: object) -> bool:
        return inspect.isfunction(value) or (isinstance(value, type) and issubclass(value, nn.Module))


builders = _Builders("build", {}, group="nasbench.builders")


def read_build(about: Mapping[str, Any]) -> Build:
    """How the model of a `model.json` is built; UserError if its space is not to be had."""
    if "build" in about:
        return FunctionBuild(about["build"]["function"], about["build"]["options"])
    options = {key: value for key, value in about["space"].items() if key != "name"}
    name = about["space"]["name"]
    return SpaceBuild(name, options, get_space(name, **options).architecture(about["architecture"]["picks"]))


def inferred_build(network: nn.Module) -> FunctionBuild:
    """How a network is built, where its class can be imported and takes no arguments.

    Raises:
        UserError: It is not so.
    """
    kind = type(network)
    name = f"{kind.__module__}:{kind.__qualname__}"
    advice = (
        f"a network of class {name} cannot be saved by itself; give build='module:function', which makes it, and its "
        f"options."
    )
    if kind.__module__.startswith("torch.") or "<locals>" in name:
        raise UserError(advice)
    build = FunctionBuild(name)
    try:
        fresh = kind()
    except Exception:
        raise UserError(advice) from None
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    if {key: tensor.shape for key, tensor in fresh.state_dict().items()} != shapes:
        raise UserError(advice)
    return build
