"""Costs of block modules, side by side: the table behind ``nasbench blocks``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nasbench.costs.cost import Cost, cost
from nasbench.devices.device import Device
from nasbench.devices.measure import Latency
from nasbench_compression.surgery import inference
from nasbench_registry import UserError
from search_spaces import Task
from search_spaces.blocks import Block


@dataclass(frozen=True)
class BlockCost:
    """One row of the table.

    Attributes:
        block: Name of the block.
        output_shape: Shape of the output: (channels, height, width).
        cost: Cost of one float32 image.
        latency: Measured latency; None without a device.
    """

    block: str
    output_shape: tuple[int, ...]
    cost: Cost
    latency: Latency | None

    def to_json(self) -> dict[str, Any]:
        """The row as a program reads it; `latency_ms` and `protocol` are null where nothing was measured."""
        protocol = self.latency.to_json() if self.latency else None
        numbers = {key: protocol.pop(key) for key in ("median", "p95", "iqr", "low", "high")} if protocol else None
        return {
            "block": self.block,
            "output_shape": list(self.output_shape),
            **self.cost.to_json(),
            "latency_ms": numbers,
            "protocol": protocol,
        }


def block_costs(
    blocks: Mapping[str, Block],
    input_shape: Sequence[int],
    *,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
    device: Device | None = None,
    budget_s: float = 0.3,
) -> tuple[list[BlockCost], dict[str, str]]:
    """Build each block for one input shape, count it, and measure all of them in turn.

    Args:
        blocks: Blocks by name.
        input_shape: Shape of the input: (channels, height, width).
        outputs: Number of output channels.
        kernel: Kernel size of blocks that have one to choose.
        stride: Stride: 1 or 2.
        device: Device that latency is measured on; None measures nothing.
        budget_s: Seconds of measuring for each block.

    Returns:
        A row for each block that can have these shapes, and {name: reason} for the others.
    """
    task = Task((input_shape[0], input_shape[1], input_shape[2]), 2)  # the number of classes is not used
    networks: dict[str, nn.Module] = {}
    left_out: dict[str, str] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, block in blocks.items():
            try:
                networks[name] = block(task.input_shape[0], outputs, kernel=kernel, stride=stride)
            except UserError as error:
                left_out[name] = str(error)
    measured: Mapping[str, Latency] = {}
    if device is not None:
        compiled = {name: device.compile(network, task) for name, network in networks.items()}
        measured = device.compare(compiled, task, budget_s).latencies
    rows = []
    for name, network in networks.items():
        with inference(network):
            shape = tuple(network(torch.zeros(1, *task.input_shape)).shape[1:])
        rows.append(BlockCost(name, shape, cost(network, task), measured.get(name)))
    return rows, left_out
