"""The layers of a network in the order in which they run, and the operators of a runtime that compute them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from nasbench_compression.compilation.onnxruntime_profile import module_name
from nasbench_compression.compilation.profiler import OperatorTime, is_product
from nasbench_compression.quantization.modules import dequantize
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.surgery import inference

Weighted = nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear

_TRACED = re.compile(r"__module\.([\w.]+)/")


@dataclass(frozen=True)
class Layer:
    """A convolution or a linear layer.

    Attributes:
        name: Name of the module.
        macs: Multiply-adds of one call.
        channels: Channels into each group of a convolution or into a product, and out of it.
        groups: Groups of a convolution.
        zeros: Share of its weights that are zero.
    """

    name: str
    macs: int
    channels: tuple[int, int]
    groups: int
    zeros: float


def layers_of(model: nn.Module, inputs: torch.Tensor) -> dict[str, Layer]:
    """The layers that run, by name, in the order in which they do.

    Args:
        model: Any network; one of the step `quantize` counts as the float one that it was.
        inputs: Inputs of one call.
    """
    network = reparameterize(dequantize(model))
    layers: dict[str, Layer] = {}

    def note(name: str, module: nn.Module, out: torch.Tensor) -> None:
        weight = module.get_parameter("weight") if "weight" in module._parameters else module.weight
        assert isinstance(weight, torch.Tensor)
        transposed = isinstance(module, nn.ConvTranspose2d)
        groups = int(getattr(module, "groups", 1))
        channels = (weight.shape[0] // groups, weight.shape[1] * groups) if transposed else weight.shape[1::-1]
        per_value = weight.numel() // int(channels[1])
        before = layers.get(name)
        macs = out.numel() * per_value + (before.macs if before is not None else 0)
        zeros = float((weight == 0).float().mean())
        layers[name] = Layer(name, macs, (int(channels[0]), int(channels[1])), groups, zeros)

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, Weighted):
            handles.append(
                module.register_forward_hook(lambda module, inputs_of_layer, out, name=name: note(name, module, out))
            )
    try:
        with inference(network):
            network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return layers


def located(operators: Sequence[OperatorTime], layers: Mapping[str, Layer]) -> list[str | None]:
    """The layer that each operator computes; None where it computes none, or where that is not known.

    By the names that the runtime kept; what is left of products and layers by their order, if as many are left of both.
    """
    names: list[str | None] = [
        next((name for name in _modules(operator) if name in layers), None) for operator in operators
    ]
    names = [name if is_product(operator.kind) else None for name, operator in zip(names, operators, strict=True)]
    nameless = [
        index
        for index, operator in enumerate(operators)
        if is_product(operator.kind) and names[index] is None and not operator.cast
    ]
    unlocated = [name for name in layers if name not in names]
    if len(nameless) == len(unlocated):
        for index, name in zip(nameless, unlocated, strict=True):
            names[index] = name
    return names


def module_of(operator: OperatorTime) -> str:
    """The module in whose forward an operator is, if the runtime kept its name."""
    return next(iter(_modules(operator)), "")


def _modules(operator: OperatorTime) -> list[str]:
    names = []
    for part in operator.parts:
        traced = _TRACED.match(part)
        name = traced.group(1) if traced else module_name(part) if part.startswith("/") else part
        if name:
            names.append(name)
    return names
