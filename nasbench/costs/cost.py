"""Costs of a network on paper: multiply-adds, operations, parameters, bytes, memory.

One multiply-add is one MAC and two FLOPs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from nasbench.costs.memory import in_words, traffic
from nasbench_compression.macs import multiply_adds
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.step import count_bytes, device_of
from search_spaces import Task

FLOPS_PER_MAC = 2


@dataclass(frozen=True)
class Counts:
    """Counts for one image, of the network as it is deployed: with its branches merged, see `reparameterize`.

    Attributes:
        macs: Multiply-adds of convolutions, linear layers, matrix products and attention, as papers count them.
        attention_macs: Part of `macs` in the two products of attention, which some papers leave out.
        params: Number of parameters.
        size_bytes: Bytes of parameters and buffers.
        uncounted: Operators that are not known to be free and were not counted, with how often they occur.
    """

    macs: int
    attention_macs: int
    params: int
    size_bytes: int
    uncounted: dict[str, int]

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiply-add is two of them, a multiplication and an addition."""
        return FLOPS_PER_MAC * self.macs


@dataclass(frozen=True)
class Cost(Counts):
    """Counts of a network, and the numbers of one run of it.

    Attributes:
        peak_activation_bytes: Largest number of bytes of activations that live at a time, see `peak_activation_bytes`.
        bytes_moved: Bytes that operators read and write if they run one by one, see `traffic`.
    """

    peak_activation_bytes: int
    bytes_moved: int

    @property
    def flops_per_byte(self) -> float:
        """Arithmetic intensity, the x axis of a roofline (Williams et al. 2009); 0 where nothing is moved."""
        return self.flops / self.bytes_moved if self.bytes_moved else 0.0

    def to_json(self) -> dict[str, Any]:
        """Every number by name, those that follow from others included."""
        return asdict(self) | {"flops": self.flops, "flops_per_byte": self.flops_per_byte}


def cost(model: nn.Module, task: Task) -> Cost:
    """Everything that is known of a network without training or timing it; the network is left as it was.

    It is what `counts` gives, and bytes and memory of a network that runs once on an empty image.
    """
    deployed = reparameterize(model)
    moved = traffic(deployed, task)
    return Cost(
        **vars(counts(deployed, task)),
        peak_activation_bytes=moved.peak_activation_bytes,
        bytes_moved=moved.bytes_moved,
    )


def counts(model: nn.Module, task: Task) -> Counts:
    """Multiply-adds, see `multiply_adds`, and parameters; the network is left as it was.

    Raises:
        UserError: The network does not run on an image of the task.
    """
    deployed = reparameterize(model)
    inputs = tuple(tensor.to(device_of(deployed)) for tensor in task.example())
    with in_words(deployed, *inputs):
        counted = multiply_adds(deployed, *inputs)
    return Counts(
        macs=counted.total,
        attention_macs=counted.attention,
        params=sum(parameter.numel() for parameter in deployed.parameters()),
        size_bytes=count_bytes(deployed),
        uncounted=counted.uncounted,
    )


def stored_bytes(model: nn.Module) -> int:
    """Bytes of the tensors of the network as it is deployed."""
    return count_bytes(reparameterize(model))
