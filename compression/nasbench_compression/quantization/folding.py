"""Folding batch norm into the convolution before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from nasbench_compression.surgery import inference, replace_module


class _Uses(TorchFunctionMode):
    """Counts how many operations that compute a tensor take each tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[int, int] = {}
        self.alive: list[Any] = []  # an id is only unique as long as its tensor lives

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count the tensors that go in."""
        result = func(*args, **(kwargs or {}))
        makes_tensor = isinstance(result, Tensor) or (
            isinstance(result, tuple | list) and any(isinstance(item, Tensor) for item in result)
        )
        if makes_tensor:
            self.alive.append((args, kwargs, result))
            for tensor in _tensors([*args, *(kwargs or {}).values()]):
                self.counts[id(tensor)] = self.counts.get(id(tensor), 0) + 1
        return result


def _tensors(values: Any) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += _tensors(value)
    return found


def find_pairs(model: nn.Module, inputs: Tensor) -> list[tuple[str, str]]:
    """Names of each convolution and the batch norm that alone consumes its output.

    Found by running the network, so that it does not matter how its forward is written. Layers that run more than
    once, and batch norms without running statistics, are left out.

    Args:
        model: any network; left as it was.
        inputs: (n, c, h, w).
    """
    outputs: dict[int, list[nn.Module]] = {}
    followers: list[tuple[int, nn.Module]] = []
    calls: dict[nn.Module, int] = {}
    handles: list[RemovableHandle] = []
    uses = _Uses()

    def after_convolution(module: nn.Module, args: Any, output: Tensor) -> None:
        uses.alive.append(output)
        calls[module] = calls.get(module, 0) + 1
        outputs.setdefault(id(output), []).append(module)

    def before_norm(module: nn.Module, args: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        followers.append((id(args[0]), module))

    for module in model.modules():
        if type(module) is nn.Conv2d:
            handles.append(module.register_forward_hook(after_convolution))
        elif type(module) is nn.BatchNorm2d and module.running_mean is not None:
            handles.append(module.register_forward_pre_hook(before_norm))
    try:
        with inference(model), uses:
            final = model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    names = {module: name for name, module in model.named_modules()}
    pairs = []
    for key, norm in followers:
        convolutions = outputs.get(key, [])
        alone = uses.counts.get(key) == 1 and key != id(final)
        if len(convolutions) == 1 and alone and calls[norm] == calls[convolutions[0]] == 1:
            pairs.append((names[convolutions[0]], names[norm]))
    return pairs


def fold(model: nn.Module, pairs: list[tuple[str, str]]) -> nn.Module:
    """Fold these pairs, in place: the convolution gets weight and bias, an identity takes the norm's place."""
    for convolution_name, norm_name in pairs:
        convolution, norm = model.get_submodule(convolution_name), model.get_submodule(norm_name)
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        with torch.no_grad():
            scale = torch.rsqrt(norm.running_var + norm.eps)
            if norm.weight is not None:
                scale = scale * norm.weight
            bias = -norm.running_mean if convolution.bias is None else convolution.bias - norm.running_mean
            bias = bias * scale
            if norm.bias is not None:
                bias = bias + norm.bias
            learned = convolution.weight.requires_grad
            folded = convolution.weight * scale.view(-1, 1, 1, 1)
        convolution.weight = nn.Parameter(folded, requires_grad=learned)
        convolution.bias = nn.Parameter(bias, requires_grad=learned)
        model = replace_module(model, norm, nn.Identity().train(norm.training))
    return model
