"""Small networks for microcontrollers, which choose the resolution of their input (Howard et al. 2017, MobileNets).

    image c x h x w
    -> average pooling                   c x h/r x w/r, where the resolution is divided by r
    -> 3x3 convolution, batch norm, ReLU
    -> stages of depthwise-separable convolutions, each of the later ones with stride 2
    -> pooling, linear layer

Width and resolution are the two multipliers of the paper, chosen stage by stage; the activations of the first layers,
which resolution shrinks, are what fills the RAM of a microcontroller (Lin et al. 2020, MCUNet, arXiv 2007.10319).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nasbench_registry import UserError
from search_spaces.blocks.depthwise_separable import depthwise_separable
from search_spaces.blocks.layers import conv_bn
from search_spaces.core import Architecture, Decision, SearchSpace, Task


class Micro(SearchSpace):
    """``resolution`` divides the side of the image, ``stem`` and ``widthI`` are channels, ``blocksI`` layers.

    Args:
        resolutions: Numbers that the side of the image may be divided by.
        widths: Channels that a stage may have.
        blocks: Numbers of layers that a stage may have.
        kernels: Kernel sizes of the depthwise convolutions of a stage.
        stages: Number of stages.
    """

    name = "micro"
    images_to_vectors = True
    summary = "depthwise-separable stages for microcontrollers, with the resolution of the input"
    source = "this project, after MobileNets (arXiv 1704.04861)"

    def __init__(
        self,
        *,
        resolutions: Sequence[int] = (1, 2),
        widths: Sequence[int] = (8, 16, 24, 32, 48),
        blocks: Sequence[int] = (1, 2),
        kernels: Sequence[int] = (3, 5),
        stages: int = 3,
    ) -> None:
        if stages < 1:
            raise UserError(f"space 'micro' needs 1 stage or more, not {stages}.")
        for name, values in (("resolutions", resolutions), ("widths", widths), ("blocks", blocks)):
            if not values or min(values) < 1:
                raise UserError(f"{name} of space 'micro' are {list(values)}; give whole numbers from 1.")
        self.resolutions, self.widths, self.stages = tuple(resolutions), tuple(widths), stages
        self.blocks, self.kernels = tuple(blocks), tuple(kernels)
        decisions = [Decision("resolution", self.resolutions), Decision("stem", self.widths)]
        for stage in range(stages):
            decisions += [
                Decision(f"width{stage}", self.widths),
                Decision(f"blocks{stage}", self.blocks),
                Decision(f"kernel{stage}", self.kernels),
            ]
        self.decisions = tuple(decisions)

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """The network; an image is pooled no further than to one pixel."""
        choice = self.choices(arch)
        divided = min(int(choice["resolution"]), *task.input_shape[1:])
        layers: list[nn.Module] = [nn.AvgPool2d(divided)] if divided > 1 else []
        channels = int(choice["stem"])
        layers.append(conv_bn(task.input_shape[0], channels, 3, activation=nn.ReLU))
        for stage in range(self.stages):
            width, kernel = int(choice[f"width{stage}"]), int(choice[f"kernel{stage}"])
            for block in range(int(choice[f"blocks{stage}"])):
                stride = 2 if block == 0 and stage > 0 else 1
                layers.append(depthwise_separable(channels, width, kernel=kernel, stride=stride))
                channels = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, task.classes))
