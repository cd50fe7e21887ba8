"""A chain of stages whose layers pick their block module, kernel size and width.

The macro structure is that of the mobile networks (MobileNetV2, MnasNet, FBNet): a stem, stages of falling resolution
and growing width, pooling and a linear layer. What stands in a layer is searched, so block modules that were
published apart compete with each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from nasbench_registry import UserError, unknown
from search_spaces.blocks import BLOCKS, get_block
from search_spaces.blocks.layers import conv_bn
from search_spaces.core import Architecture, Decision, SearchSpace, Task
from search_spaces.diagram import Graph, network_chain

STEM = 16  # channels
TAIL = (("global average pooling", ""), ("flatten", ""), ("linear", ""))


class Mobile(SearchSpace):
    """Layers written ``block_k<kernel>_w<width>``, joined by ``-`` in a stage; stages joined by ``/``.

    The first layer of a stage carries its stride, so it is a block that can. Stages after the first halve the
    resolution; images of 64 pixels and more are halved in the stem, too. A block without a kernel to choose has none
    in the notation, and one that cannot change its width, such as the identity, has no width.

    Args:
        widths: Output channels of each stage at width 1.0.
        layers: Number of layers in each stage.
        width_factors: Factors by which a layer may multiply its stage's width (rounded to a multiple of 8).
        kernels: Odd kernel sizes that a layer may have.
        blocks: Names of the block modules to choose from, those of the zoo by default; ``module:attribute`` names one
            of your own.
    """

    name = "mobile"
    images_to_vectors = True
    summary = "stages whose layers pick a block module, a kernel size and a width"
    source = "this project, after MobileNetV2 (arXiv 1801.04381) and FBNet (arXiv 1812.03443)"

    def __init__(
        self,
        *,
        widths: Sequence[int] = (16, 32, 64),
        layers: int = 2,
        width_factors: Sequence[float] = (0.5, 0.75, 1.0),
        kernels: Sequence[int] = (3, 5),
        blocks: Sequence[str] = tuple(BLOCKS),
    ) -> None:
        self.zoo = {name: get_block(name) for name in blocks}
        if layers < 1 or not widths or min(widths) < 8:
            raise UserError(
                f"space 'mobile' needs layers of 1 or more and widths of 8 or more, not {layers}, {widths}."
            )
        if any(kernel % 2 == 0 or kernel < 1 for kernel in kernels) or not kernels:
            raise UserError(f"kernels {list(kernels)} of space 'mobile' must be odd numbers such as 3, 5, 7.")
        if not width_factors or min(width_factors) <= 0:
            raise UserError(f"width_factors {list(width_factors)} of space 'mobile' must be above 0.")
        strided = [name for name, block in self.zoo.items() if block.reshapes]
        if not strided:
            raise UserError(
                f"space 'mobile' needs a block that can change width and resolution, which {', '.join(blocks)} cannot."
            )
        self.widths, self.layers, self.blocks = tuple(widths), layers, tuple(blocks)
        self.width_factors, self.kernels = tuple(width_factors), tuple(kernels)
        with_kernel = tuple(name for name, block in self.zoo.items() if block.has_kernel)
        decisions = []
        for stage in range(len(self.widths)):
            for layer in range(layers):
                at = f"s{stage}l{layer}"
                options = strided if layer == 0 else list(self.zoo)
                decisions.append(Decision(f"{at}_block", tuple(options)))
                for attribute, values, needed in (
                    ("kernel", self.kernels, with_kernel),
                    ("width", self.width_factors, strided),
                ):
                    having = tuple(name for name in options if name in needed)
                    when = {f"{at}_block": having} if len(having) < len(options) else {}
                    if having:
                        decisions.append(Decision(f"{at}_{attribute}", values, when))
        self.decisions = tuple(decisions)

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """Stem, stages, global average pooling, linear layer."""
        channels = STEM
        stride = 2 if min(task.input_shape[1:]) >= 64 else 1
        modules: list[nn.Module] = [conv_bn(task.input_shape[0], channels, 3, stride=stride, activation=nn.ReLU)]
        for index, (name, kernel, factor) in enumerate(self._layers_of(arch)):
            stage, layer = divmod(index, self.layers)
            outputs = channels if factor is None else _multiple_of_8(self.widths[stage] * factor)
            stride = 2 if layer == 0 and stage > 0 else 1
            modules.append(self.zoo[name](channels, outputs, kernel=3 if kernel is None else kernel, stride=stride))
            channels = outputs
        return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, task.classes))

    def _layers_of(self, arch: Architecture) -> list[tuple[str, int | None, float | None]]:
        """Block, kernel and width factor of each layer; None for what its block does not have."""
        choice = self.choices(arch)
        places = [f"s{stage}l{layer}" for stage in range(len(self.widths)) for layer in range(self.layers)]
        return [(choice[f"{at}_block"], choice.get(f"{at}_kernel"), choice.get(f"{at}_width")) for at in places]

    def diagram(self, arch: Architecture, task: Task) -> tuple[Graph, ...]:
        """The chain of layers."""
        labels = [("convolution", "k3")]
        for name, kernel, factor in self._layers_of(arch):
            details = [f"k{kernel}" if kernel is not None else "", f"w{factor}" if factor is not None else ""]
            labels.append((name.rpartition(":")[2].replace("_", " "), " ".join(detail for detail in details if detail)))
        return (network_chain("network", self.build(arch, task), task, (*labels, *TAIL)),)

    def format(self, arch: Architecture) -> str:
        """The notation, such as ``convolution_k3_w1.0-identity/ghost_module_k5_w0.5-transformer_encoder_w1.0``."""
        texts = [
            name + ("" if kernel is None else f"_k{kernel}") + ("" if factor is None else f"_w{factor}")
            for name, kernel, factor in self._layers_of(arch)
        ]
        stages = (texts[start : start + self.layers] for start in range(0, len(texts), self.layers))
        return "/".join("-".join(stage) for stage in stages)

    def parse(self, text: str) -> Architecture:
        """The architecture behind the notation of `format`."""
        layers = [layer for stage in text.strip().split("/") for layer in stage.split("-")]
        if len(layers) != len(self.widths) * self.layers:
            raise UserError(
                f"{text!r} has {len(layers)} layers; this space 'mobile' has {len(self.widths) * self.layers}."
            )
        written: dict[str, str] = {}
        for index, layer in enumerate(layers):
            at = "s{}l{}".format(*divmod(index, self.layers))
            match = re.fullmatch(r"(?P<block>.+?)(?:_k(?P<kernel>[^_]+))?(?:_w(?P<width>[^_]+))?", layer)
            named = match.groupdict() if match else {"block": layer}
            written.update({f"{at}_{key}": value for key, value in named.items() if value is not None})
        picks: list[int] = []
        for decision, conditions in zip(self.decisions, self.layout.conditions, strict=True):
            matters = all(picks[at] in allowed for at, allowed in conditions)
            value = written.pop(decision.name, None) if matters else None
            options = [decision.text(index) for index in range(len(decision.options))]
            if matters and value not in options:
                raise unknown(decision.name, "" if value is None else value, options, where=f"in {text.strip()!r}")
            picks.append(options.index(value) if value is not None else 0)
        if written:
            name, value = next(iter(written.items()))
            raise UserError(f"{text!r} gives {name} = {value!r}, which the block of that layer does not have.")
        return self.architecture(picks)


def _multiple_of_8(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, at least 8: what vector units and int8 kernels like."""
    return max(8, int(channels + 4) // 8 * 8)
