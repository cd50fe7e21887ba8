"""Outputs of layers inside of a network, read by hooks, so that it does not matter how its forward is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression.outputs import is_wrapped
from nasbench_compression.surgery import inference
from nasbench_registry import UserError, unknown


def as_map(features: Tensor) -> Tensor:
    """Features as (n, channels, h, w): tokens (n, t, d) become (n, d, t, 1), vectors (n, d) become (n, d, 1, 1)."""
    if features.ndim == 3:
        return features.transpose(1, 2)[..., None]
    return features.reshape(*features.shape, *[1] * (4 - features.ndim))


def same_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps (n, c, h, w) at the smaller height and width, by averaging."""
    height, width = (min(a, b) for a, b in zip(first.shape[2:], second.shape[2:], strict=True))

    def reduced(features: Tensor) -> Tensor:
        same = features.shape[2:] == (height, width)
        return features if same else functional.adaptive_avg_pool2d(features, (height, width))

    return reduced(first), reduced(second)


def last_map(model: nn.Module, inputs: Tensor) -> str:
    """Name of the module that last puts out a map with more than one position, or more than one token.

    In most networks that is what comes before the global pooling.

    Raises:
        UserError: There is no such module.
    """
    map_names: list[str] = []

    def watch(name: str) -> Any:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            if (
                isinstance(output, Tensor)
                and output.ndim in (3, 4)
                and not is_wrapped(output)
                and as_map(output)[0, 0].numel() > 1
            ):
                map_names.append(name)

        return note

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        with inference(model):
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not map_names:
        raise UserError(
            "distill finds no feature map in this network; name layers by student_layers and teacher_layers."
        )
    return map_names[-1]


class Features:
    """The latest output of some modules, while `watching`.

    Args:
        model: Network that has the modules.
        names: Names of the modules.
        option: Name of the option that names them, for errors.

    Raises:
        UserError: A name fits no module.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], option: str) -> None:
        modules = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
        for name in names:
            if name not in modules:
                raise unknown("module", name, modules, where=f"in distill {option}")
            if isinstance(modules[name], torch.jit.ScriptModule):
                raise UserError(
                    f"layer {name!r} in distill {option} is compiled by TorchScript, which bears no hook; name another."
                )
        self._modules = [modules[name] for name in names]
        self._names, self._option = list(names), option
        self._latest: dict[nn.Module, Any] = {}

    @contextlib.contextmanager
    def watching(self) -> Iterator[Features]:
        """Hooks on the modules inside the block."""

        def keep(module: nn.Module, args: Any, output: Any) -> None:
            self._latest[module] = None if isinstance(output, Tensor) and is_wrapped(output) else output

        handles = [module.register_forward_hook(keep) for module in self._modules]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()
            self._latest.clear()

    def maps(self) -> list[Tensor]:
        """Each module's latest output as a float map (n, c, h, w).

        Raises:
            UserError: A module did not run, or put out something else than features.
        """
        feature_maps = []
        for name, module in zip(self._names, self._modules, strict=True):
            output = self._latest.get(module)
            if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
                form = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise UserError(
                    f"layer {name!r} in distill {self._option} puts out {form}, which is no feature map; name another."
                )
            feature_maps.append(as_map(output).float())
        return feature_maps

    def shapes(self, model: nn.Module, inputs: Tensor) -> list[torch.Size]:
        """Shapes of the maps for these inputs; to be called while watching."""
        with inference(model):
            model(inputs)
        return [features.shape for features in self.maps()]
