"""The size space of NATS-Bench: the channels of five layers around a fixed cell (Dong et al. 2021, arXiv 2009.00437).

The network is that of NAS-Bench-201 with one cell a stage. An architecture is five numbers, such as ``8:16:24:32:40``:
the channels that each layer gives, while the stem gives as many as the first cell.

    stem -- cell -- residual block -- cell -- residual block -- cell -- batch norm, ReLU, pooling, linear
      8      8            16           24           32           40

The cell is the best one that the paper's topology space has for CIFAR-100. A cell that changes the number of channels
does so in the operations on its input; its skip connection then is a 1x1 convolution with batch norm.
"""

from __future__ import annotations

from torch import nn

from nasbench_registry import UserError, unknown
from search_spaces.core import Architecture, Decision, SearchSpace, Task
from search_spaces.diagram import Graph
from search_spaces.nasbench201 import Cell, Reduction, cell_graph, skeleton, skeleton_graph

CHANNELS = (8, 16, 24, 32, 40, 48, 56, 64)
LAYERS = ("cell1", "reduction1", "cell2", "reduction2", "cell3")
OPERATIONS = ("nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "nor_conv_3x3")


class NATSSize(SearchSpace):
    """The 32,768 sizes of NATS-Bench, in its notation ``8:16:24:32:40``."""

    name = "nats_size"
    images_to_vectors = True
    decisions = tuple(Decision(layer, CHANNELS) for layer in LAYERS)
    summary = "the channels, 8 to 64, of five layers around a fixed cell: 32,768 architectures"
    source = "Dong et al. 2021, arXiv 2009.00437"

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """The network of the paper with these channels."""
        widths = self.widths(arch)
        blocks: list[nn.Module] = []
        inputs = widths[0]
        for layer, outputs in zip(LAYERS, widths, strict=True):
            blocks.append(
                Cell.of(OPERATIONS, inputs, outputs) if layer.startswith("cell") else Reduction(inputs, outputs)
            )
            inputs = outputs
        return skeleton(widths[0], blocks, inputs, task)

    def widths(self, arch: Architecture) -> list[int]:
        """The channels that each layer gives."""
        return list(self.choices(arch).values())

    def diagram(self, arch: Architecture, task: Task) -> tuple[Graph, ...]:
        """The cell, and the chain of layers."""
        return cell_graph(OPERATIONS), skeleton_graph(self.build(arch, task), task)

    def format(self, arch: Architecture) -> str:
        """The channels, joined by colons."""
        return ":".join(map(str, self.widths(arch)))

    def parse(self, text: str) -> Architecture:
        """The architecture behind a string of the paper."""
        tokens = text.strip().split(":")
        if len(tokens) != len(LAYERS):
            raise UserError(f"{text!r} has {len(tokens)} numbers; write {len(LAYERS)}, such as 8:16:24:32:40.")
        options = [str(channels) for channels in CHANNELS]
        for token in tokens:
            if token not in options:
                raise unknown("number of channels", token, options, where=f"in {text!r}")
        return self.architecture([options.index(token) for token in tokens])
