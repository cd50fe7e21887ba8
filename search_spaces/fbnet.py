"""FBNet: 22 layers, each of them one of nine operations (Wu et al. 2019, arXiv 1812.03443).

The macro architecture of the paper (table 1), at 224 pixels:

    image 3x224x224
    -> 3x3 convolution, stride 2                                       16x112x112
    -> 7 stages of 1, 4, 4, 4, 4, 4, 1 searched layers                 16, 24, 32, 64, 112, 184, 352 channels
       whose first layers have strides 1, 2, 2, 2, 1, 2, 1             ... 352x7x7
    -> 1x1 convolution to 1984 channels (1504 in FBNet-A), pooling, linear layer

The operations but `skip` are inverted residuals with ReLU and a linear end, named by kernel and expansion. As in the
authors' code (github.com/facebookresearch/mobile-vision), an expansion of 1 has no 1x1 convolution in front; with
``g2`` the channels of two groups are shuffled, then the last 1x1 convolution works in two groups; and a skip where the
width or the resolution changes is a strided 1x1 convolution with batch norm and ReLU. Built so, FBNet-A, B and C have
4.30, 4.80 and 5.57 M parameters and 244, 291 and 378 M multiply-adds; table 3 of the paper has 4.3, 4.5 and 5.5 M and
249, 295 and 375 M.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nasbench_registry import UserError, one_of, unknown
from search_spaces.blocks.layers import conv_bn, multiple_of_8, residual_if_same
from search_spaces.blocks.shuffle_unit import channel_shuffle
from search_spaces.chains import strides_for
from search_spaces.core import Architecture, Decision, SearchSpace, Task
from search_spaces.diagram import Graph, network_chain

OPERATIONS: dict[str, tuple[int, int, int]] = {  # kernel, expansion, groups
    "k3_e1": (3, 1, 1),
    "k3_e1_g2": (3, 1, 2),
    "k3_e3": (3, 3, 1),
    "k3_e6": (3, 6, 1),
    "k5_e1": (5, 1, 1),
    "k5_e1_g2": (5, 1, 2),
    "k5_e3": (5, 3, 1),
    "k5_e6": (5, 6, 1),
}
SKIP = "skip"
STEM = 16
STAGES = (
    (16, 1, 1),
    (24, 4, 2),
    (32, 4, 2),
    (64, 4, 2),
    (112, 4, 1),
    (184, 4, 2),
    (352, 1, 1),
)  # width, layers, stride


class FBNet(SearchSpace):
    """The 9^22 networks of FBNet, written as their operations joined by ``-``: ``k3_e1-k3_e6-skip-...``.

    Images below 128 pixels are halved less often, see `strides_for`; the first halvings are left out.

    Args:
        width: Factor of the channels of stem and stages (rounded to multiples of 8).
        head: Channels of the last convolution; 1504 in FBNet-A.
        operations: Operations that a layer may be; all nine by default.
    """

    name = "fbnet"
    images_to_vectors = True
    summary = "22 layers of an inverted residual with kernel, expansion and groups, or none: 9^22 architectures"
    source = "Wu et al. 2019, arXiv 1812.03443"

    def __init__(
        self, *, width: float = 1.0, head: int = 1984, operations: Sequence[str] = (*OPERATIONS, SKIP)
    ) -> None:
        if width <= 0 or head < 1:
            raise UserError(f"space 'fbnet' needs a width above 0 and a head of 1 or more, not {width} and {head}.")
        for operation in operations:
            one_of("operation of space 'fbnet'", operation, (*OPERATIONS, SKIP))
        self.width, self.head, self.operations = width, head, tuple(operations)
        self.decisions = tuple(
            Decision(f"stage{stage}_layer{layer}", self.operations)
            for stage, (_, layers, _) in enumerate(STAGES)
            for layer in range(layers)
        )

    def build(self, arch: Architecture, task: Task) -> nn.Module:
        """Stem, 22 layers, 1x1 convolution, global average pooling, linear layer."""
        first, *strides = strides_for(
            task, [2, *(stride if layer == 0 else 1 for _, layers, stride in STAGES for layer in range(layers))]
        )
        widths = [multiple_of_8(self.width * width) for width, layers, _ in STAGES for _ in range(layers)]
        channels = multiple_of_8(self.width * STEM)
        modules: list[nn.Module] = [conv_bn(task.input_shape[0], channels, 3, stride=first, activation=nn.ReLU)]
        for operation, width, stride in zip(self.choices(arch).values(), widths, strides, strict=True):
            modules.append(_layer(operation, channels, width, stride))
            channels = width
        modules.append(conv_bn(channels, self.head, activation=nn.ReLU))
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(*modules, pool, nn.Linear(self.head, task.classes))

    def format(self, arch: Architecture) -> str:
        """The operations in their order."""
        return "-".join(self.choices(arch).values())

    def parse(self, text: str) -> Architecture:
        """The architecture behind the notation of `format`."""
        written = text.strip().split("-")
        if len(written) != len(self.decisions):
            raise UserError(
                f"{text!r} has {len(written)} operations; space 'fbnet' has {len(self.decisions)}, joined by '-'."
            )
        options = self.decisions[0].options
        for operation in written:
            if operation not in options:
                raise unknown("operation", operation, options, where="in an architecture of space 'fbnet'")
        return self.architecture([options.index(operation) for operation in written])

    def diagram(self, arch: Architecture, task: Task) -> tuple[Graph, ...]:
        """The chain of its layers, each with kernel, expansion and groups."""
        network = self.build(arch, task)
        assert isinstance(network, nn.Sequential), "build makes a chain"
        labels = [("convolution", "k3")]
        for operation, module in zip(self.choices(arch).values(), list(network)[1:-3], strict=True):
            if operation != SKIP:
                labels.append(("inverted residual", operation.replace("_", " ")))
            else:
                labels.append(("skip", "" if isinstance(module, nn.Identity) else "1x1 convolution"))
        labels += [("convolution", "k1"), ("average pooling", ""), ("linear", "")]
        return (network_chain("network", network, task, labels),)


def _layer(operation: str, inputs: int, outputs: int, stride: int) -> nn.Module:
    if operation == SKIP:
        same = inputs == outputs and stride == 1
        return nn.Identity() if same else conv_bn(inputs, outputs, stride=stride, activation=nn.ReLU)
    kernel, expansion, groups = OPERATIONS[operation]
    hidden = inputs * expansion
    body = nn.Sequential(
        *([conv_bn(inputs, hidden, activation=nn.ReLU)] if expansion > 1 else []),
        *([_Shuffle(groups)] if groups > 1 else []),
        conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, activation=nn.ReLU),
        conv_bn(hidden, outputs, groups=groups),
    )
    return residual_if_same(body, inputs, outputs, stride)


class _Shuffle(nn.Module):
    """Interleaves the channels of `groups` groups; (n, c, h, w) keeps its shape."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return channel_shuffle(x, self.groups)
