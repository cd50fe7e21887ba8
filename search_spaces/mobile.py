"""A chain of stages whose layers pick their block module, kernel size and width.

The macro structure is that of the mobile networks (MobileNetV2, MnasNet, FBNet): a stem, stages of falling resolution
and growing width, pooling and a linear layer. What stands in a layer is searched, so block modules that were
published apart compete with each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nasbench_registry import UserError, unknown
from search_spaces.blocks import BLOCKS
from search_spaces.blocks.layers import conv_bn
from search_spaces.core import Architecture, Decision, SearchSpace, Task


class Mobile(SearchSpace):
    """Layers written ``block_k<kernel>_w<width>``, joined by ``-`` in a stage; stages joined by ``/``.

    The first layer of a stage carries its stride and is never the identity. Stages after the first halve the
    resolution; images of 64 pixels and more are halved in the stem, too.

    Args:
        widths: output channels of each stage at width 1.0.
        layers: layers in each stage.
        width_factors: what a layer may multiply its stage's width by (rounded to a multiple of 8).
        kernels: odd kernel sizes a layer may have.
        blocks: names of the block modules to choose from; all by default.
    """

    name = "mobile"
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
        for block in blocks:
            if block not in BLOCKS:
                raise unknown("block", block, BLOCKS)
        if layers < 1 or not widths or min(widths) < 8:
            raise UserError(
                f"space 'mobile' needs layers of 1 or more and widths of 8 or more, not {layers}, {widths}."
            )
        if any(kernel % 2 == 0 or kernel < 1 for kernel in kernels) or not kernels:
            raise UserError(f"kernels {list(kernels)} of space 'mobile' must be odd numbers such as 3, 5, 7.")
        if not width_factors or min(width_factors) <= 0:
            raise UserError(f"width_factors {list(width_factors)} of space 'mobile' must be above 0.")
        strided = [block for block in blocks if block != "identity"]
        if not strided:
            raise UserError("space 'mobile' needs a block besides 'identity', which cannot carry a stride.")
        self.widths, self.layers = tuple(widths), layers
        decisions = []
        for stage in range(len(self.widths)):
            for layer in range(layers):
                at = f"s{stage}l{layer}"
                decisions.append(Decision(f"{at}_block", tuple(strided if layer == 0 else blocks)))
                decisions.append(Decision(f"{at}_kernel", tuple(kernels)))
                decisions.append(Decision(f"{at}_width", tuple(width_factors)))
        self.decisions = tuple(decisions)

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """Stem, stages, global average pooling, linear layer."""
        choice = self.choices(arch)
        channels = 16
        stride = 2 if min(task.input_shape[1:]) >= 64 else 1
        modules: list[nn.Module] = [conv_bn(task.input_shape[0], channels, 3, stride=stride, activation=nn.ReLU)]
        for stage, width in enumerate(self.widths):
            for layer in range(self.layers):
                at = f"s{stage}l{layer}"
                block = choice[f"{at}_block"]
                outputs = channels if block == "identity" else _multiple_of_8(width * choice[f"{at}_width"])
                stride = 2 if layer == 0 and stage > 0 else 1
                modules.append(BLOCKS[block](channels, outputs, kernel=choice[f"{at}_kernel"], stride=stride))
                channels = outputs
        return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, task.classes))

    def canonical(self, arch: Architecture) -> Architecture:
        """An identity layer has neither kernel nor width: both picks are set to the first option."""
        self.require_valid(arch)
        picks = list(arch.picks)
        for start in range(0, len(picks), 3):
            if self.decisions[start].options[picks[start]] == "identity":
                picks[start + 1 : start + 3] = [0, 0]
        return Architecture(self.name, tuple(picks))

    def format(self, arch: Architecture) -> str:
        """Such as ``convolution_k3_w1.0-identity_k3_w0.5/ghost_module_k5_w0.5-...``."""
        self.require_valid(arch)
        texts = []
        for start in range(0, len(arch.picks), 3):
            block, kernel, width = (
                decision.text(pick)
                for decision, pick in zip(self.decisions[start : start + 3], arch.picks[start : start + 3], strict=True)
            )
            texts.append(f"{block}_k{kernel}_w{width}")
        stages = (texts[start : start + self.layers] for start in range(0, len(texts), self.layers))
        return "/".join("-".join(stage) for stage in stages)

    def parse(self, text: str) -> Architecture:
        """The architecture behind the notation of `format`."""
        layers = [layer for stage in text.strip().split("/") for layer in stage.split("-")]
        if len(layers) * 3 != len(self.decisions):
            raise UserError(f"{text!r} has {len(layers)} layers; this space 'mobile' has {len(self.decisions) // 3}.")
        picks: list[int] = []
        for layer, start in zip(layers, range(0, len(self.decisions), 3), strict=True):
            block, _, rest = layer.rpartition("_k")
            kernel, _, width = rest.partition("_w")
            for written, decision in zip((block, kernel, width), self.decisions[start : start + 3], strict=True):
                options = [decision.text(index) for index in range(len(decision.options))]
                if written not in options:
                    raise unknown(decision.name, written, options, where=f"in layer {layer!r}")
                picks.append(options.index(written))
        return self.architecture(picks)


def _multiple_of_8(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, at least 8: what vector units and int8 kernels like."""
    return max(8, int(channels + 4) // 8 * 8)
