"""The tensors that all networks of a supernet share, and a network that computes with its part of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nasbench_compression.step import device_of
from nasbench_compression.subnetworks import Positions


class SharedWeights(nn.Module):
    """Trainable tensors by name; names may have dots, which torch keeps for the paths of modules.

    Args:
        tensors: First values of the tensors; a parameter that requires no gradient stays so.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            trainable = tensor.requires_grad if isinstance(tensor, nn.Parameter) else True
            self.register_parameter(_flat(name), nn.Parameter(tensor.detach().clone(), requires_grad=trainable))

    def __contains__(self, name: str) -> bool:
        return _flat(name) in self._parameters

    def __getitem__(self, name: str) -> nn.Parameter:
        parameter = self._parameters[_flat(name)]
        assert parameter is not None, "only tensors are registered"
        return parameter

    @property
    def shapes(self) -> dict[str, list[int]]:
        """The shapes of all tensors, by name."""
        return {name: list(parameter.shape) for name, parameter in self._parameters.items() if parameter is not None}

    @property
    def count(self) -> int:
        """How many values are shared."""
        return sum(parameter.numel() for parameter in self.parameters())


def _flat(name: str) -> str:
    return name.replace(".", "/")


@dataclass(frozen=True)
class Source:
    """Where a network finds one of its parameters.

    Attributes:
        name: Name of the shared tensor.
        positions: Positions in the shared tensor.
    """

    name: str
    positions: Positions


@dataclass(frozen=True)
class Member:
    """One network of a supernet.

    Attributes:
        network: Structure of the network, with buffers of its own. Its own parameters are only what `fill` put there.
        sources: Source of each of its parameters, by the name that it has in the network.
    """

    network: nn.Module
    sources: Mapping[str, Source]

    def forward(self, weights: SharedWeights, *inputs: Tensor) -> Any:
        """The outputs of the network with its part of the shared tensors, through which gradients reach them.

        Its buffers stay as they are: the next use of the same structure begins as one that is made anew.

        Args:
            weights: Shared tensors of the supernet; the network follows them to their device.
            inputs: Inputs as the network takes them.
        """
        device = device_of(weights)
        if device_of(self.network) != device:
            self.network.to(device)
        tensors = {name: source.positions.take(weights[source.name]) for name, source in self.sources.items()}
        if self.network.training:
            tensors |= {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        return functional_call(self.network, tensors, inputs)

    def fill(self, weights: SharedWeights) -> nn.Module:
        """The network with copies of its part of the shared tensors, on the CPU."""
        self.network.to("cpu")
        parameters = dict(self.network.named_parameters())
        with torch.no_grad():
            for name, source in self.sources.items():
                parameters[name].copy_(source.positions.take(weights[source.name]).cpu())
        return self.network
