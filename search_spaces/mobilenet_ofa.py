"""MobileNetV3 with elastic depth, kernels, expansions and resolution (Cai et al. 2020, Once-for-All, arXiv 1908.09791).

The trunk of MobileNetV3-Large (Howard et al. 2019, arXiv 1905.02244) as the authors of Once-for-All changed it
(github.com/mit-han-lab/once-for-all), at 224 pixels and width 1.0:

    image 3x224x224
    -> 3x3 convolution, stride 2, one 3x3 inverted residual without expansion     16x112x112
    -> 5 units of 2 to 4 searched inverted residuals, whose first ones have        24, 40, 80, 112, 160 channels
       strides 2, 2, 2, 1, 2; squeeze-and-excitation in units 2, 4, 5;             ... 160x7x7
       ReLU in units 1 and 2, hard-swish in the others
    -> 1x1 convolution to 960, pooling, 1x1 convolution to 1280, linear layer

Only the networks are here, each with weights of its own; the paper shares the weights of one large network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from nasbench_registry import UserError, unknown
from search_spaces.blocks.layers import SqueezeExcitation, conv_bn, multiple_of_8, residual_if_same
from search_spaces.chains import read_choices, read_lists, strides_for
from search_spaces.core import Architecture, Decision, SearchSpace, Task
from search_spaces.diagram import Graph, network_chain
from search_spaces.language import repeated

STEM, EXPANDED, MIXED = 16, 960, 1280
UNITS = (  # width, stride, squeeze-and-excitation, activation
    (24, 2, False, nn.ReLU),
    (40, 2, True, nn.ReLU),
    (80, 2, False, nn.Hardswish),
    (112, 1, True, nn.Hardswish),
    (160, 2, True, nn.Hardswish),
)
EXAMPLE = "r224-d2,2,2,2,2-ks3,5,7,3,5,7,3,5,7,3-e3,4,6,3,4,6,3,4,6,3"


class MobileNetOFA(SearchSpace):
    """Written with the lists of the authors' code: resolution, depths of the units, kernels, expansions.

    ``r224-d2,2,3,2,2-ks3,5,7,...-e3,4,6,...``; kernels and expansions stand for the layers that there are, in order.
    By default (9^2 + 9^3 + 9^4)^5 = 7371^5 networks for each of 25 resolutions.

    A resolution is the shorter side, in pixels, to which the network resizes its images (bilinear). Where images are
    smaller than the largest resolution, all resolutions shrink in proportion, so that the largest one is the image as
    it is: with 128 to 224 for images of 32 pixels, the network works on 18 to 32. Images below 128 pixels are also
    halved less often, see `strides_for`; that goes by the task, not by the resolution.

    Args:
        width: Factor of all channels (rounded to multiples of 8); the authors have 1.0 and 1.2.
        depths: Numbers of layers that a unit may have.
        kernels: Odd kernel sizes that a layer may have.
        expansions: Widths of the middle of a layer, as multiples of its input's.
        resolutions: Resolutions in pixels.
    """

    name = "mobilenet_ofa"
    images_to_vectors = True
    summary = "MobileNetV3 with elastic depth, kernels, expansions and resolution: 25 * 7371^5 architectures"
    source = "Cai et al. 2020, arXiv 1908.09791"

    def __init__(
        self,
        *,
        width: float = 1.0,
        depths: Sequence[int] = (2, 3, 4),
        kernels: Sequence[int] = (3, 5, 7),
        expansions: Sequence[float] = (3, 4, 6),
        resolutions: Sequence[int] = tuple(range(128, 225, 4)),
    ) -> None:
        if width <= 0:
            raise UserError(f"space 'mobilenet_ofa' needs a width above 0, not {width}.")
        if any(kernel % 2 == 0 or kernel < 1 for kernel in kernels):
            raise UserError(f"kernels {list(kernels)} of space 'mobilenet_ofa' must be odd numbers such as 3, 5, 7.")
        for option, numbers in {"depths": depths, "expansions": expansions, "resolutions": resolutions}.items():
            if not numbers or min(numbers) < 1:
                raise UserError(f"{option} of space 'mobilenet_ofa' must be numbers from 1, not {list(numbers)}.")
        self.width, self.depths, self.resolutions = width, tuple(depths), tuple(resolutions)
        self.kernels, self.expansions = tuple(kernels), tuple(expansions)
        layer = (Decision("kernel", self.kernels), Decision("expansion", self.expansions))
        self.decisions = (
            Decision("resolution", self.resolutions),
            *(decision for unit in range(len(UNITS)) for decision in repeated(_unit(unit), self.depths, layer)),
        )

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """Resizing, stem, units, 1x1 convolution, global average pooling, 1x1 convolution, linear layer."""
        channels, expanded, mixed = (multiple_of_8(self.width * number) for number in (STEM, EXPANDED, MIXED))
        first, *strides = strides_for(task, [2, *(stride for _, stride, _, _ in UNITS)])
        modules: list[nn.Module] = [
            _resize(task, self.choices(arch)["resolution"], max(self.resolutions)),
            conv_bn(task.input_shape[0], channels, 3, stride=first, activation=nn.Hardswish),
            _layer(channels, channels, 3, 1, 1, False, nn.ReLU),
        ]
        for unit, (width, _, squeeze, activation) in enumerate(UNITS):
            outputs = multiple_of_8(self.width * width)
            for index, layer in enumerate(self.parts(arch, _unit(unit))):
                stride = strides[unit] if index == 0 else 1
                modules.append(
                    _layer(channels, outputs, layer["kernel"], layer["expansion"], stride, squeeze, activation)
                )
                channels = outputs
        modules += [
            conv_bn(channels, expanded, activation=nn.Hardswish),
            nn.AdaptiveAvgPool2d(1),
            nn.Sequential(nn.Conv2d(expanded, mixed, 1, bias=False), nn.Hardswish(), nn.Flatten()),
        ]
        return nn.Sequential(*modules, nn.Linear(mixed, task.classes))

    def format(self, arch: Architecture) -> str:
        """The notation, such as ``r224-d2,2,2,2,2-ks3,5,7,...-e3,4,6,...``."""
        resolution = self.choices(arch)["resolution"]
        units = [self.parts(arch, _unit(unit)) for unit in range(len(UNITS))]
        depths = ",".join(str(len(layers)) for layers in units)
        kernels, expansions = (
            ",".join(str(layer[name]) for layers in units for layer in layers) for name in ("kernel", "expansion")
        )
        return f"r{resolution}-d{depths}-ks{kernels}-e{expansions}"

    def parse(self, text: str) -> Architecture:
        """The architecture behind the notation of `format`."""
        resolution, depths, kernels, expansions = read_lists(text, ("r", "d", "ks", "e"), EXAMPLE)
        depth_texts = [str(depth) for depth in self.depths]
        for depth in depths:
            if depth not in depth_texts:
                raise unknown("depth", depth, depth_texts, where=f"in {text!r}")
        layers = sum(int(depth) for depth in depths)
        if len(resolution) != 1 or len(depths) != len(UNITS) or not len(kernels) == len(expansions) == layers:
            raise UserError(
                f"{text!r} must have 1 resolution, {len(UNITS)} depths, and as many kernels and expansions as layers, "
                f"not {len(resolution)}, {len(depths)}, {len(kernels)} and {len(expansions)}."
            )
        chosen = {"resolution": resolution[0]}
        layer_options = iter(zip(kernels, expansions, strict=True))
        for unit, depth in enumerate(depths):
            chosen[f"{_unit(unit)}_count"] = depth
            for layer in range(int(depth)):
                at = f"{_unit(unit)}{layer}"
                chosen[f"{at}.kernel"], chosen[f"{at}.expansion"] = next(layer_options)
        return read_choices(self, chosen, text)

    def diagram(self, arch: Architecture, task: Task) -> tuple[Graph, ...]:
        """The chain of its layers, each with kernel and expansion."""
        labels = [("resize", ""), ("convolution", "k3"), ("inverted residual", "k3 e1")]
        for unit, (_, _, squeeze, _) in enumerate(UNITS):
            for layer in self.parts(arch, _unit(unit)):
                detail = f"k{layer['kernel']} e{layer['expansion']}{' SE' if squeeze else ''}"
                labels.append(("inverted residual", detail))
        labels += [("convolution", "k1"), ("average pooling", ""), ("convolution", "k1"), ("linear", "")]
        return (network_chain("network", self.build(arch, task), task, labels),)


def _unit(index: int) -> str:
    """The name of the parts that are the layers of a unit."""
    return f"unit{index}_layer"


def _layer(
    inputs: int,
    outputs: int,
    kernel: int,
    expansion: float,
    stride: int,
    squeeze: bool,
    activation: type[nn.Module],
) -> nn.Module:
    """An inverted residual; without the first convolution for an expansion of 1."""
    hidden = inputs if expansion == 1 else multiple_of_8(inputs * expansion)
    body = nn.Sequential(
        *([conv_bn(inputs, hidden, activation=activation)] if expansion > 1 else []),
        conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, activation=activation),
        *([SqueezeExcitation(hidden)] if squeeze else []),
        conv_bn(hidden, outputs),
    )
    return residual_if_same(body, inputs, outputs, stride)


def _resize(task: Task, resolution: int, largest: int) -> nn.Module:
    """To `resolution` on the shorter side; in proportion where images are smaller than the largest resolution."""
    height, width = task.input_shape[1:]
    side = min(height, width)
    target_side = resolution * min(side, largest) / largest
    size = (max(1, round(height * target_side / side)), max(1, round(width * target_side / side)))
    return nn.Identity() if size == (height, width) else _Resize(size)


class _Resize(nn.Module):
    """Bilinear: (n, c, h, w) -> (n, c, *size)."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(x, size=self.size, mode="bilinear", align_corners=False)
