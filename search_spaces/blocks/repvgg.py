"""The block of RepVGG (Ding et al. 2021, arXiv 2101.03697): three branches in training, one convolution deployed."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional

from search_spaces.blocks.layers import conv_bn


class RepVGG(nn.Module):
    """``relu(dense(x) + pointwise(x) + shortcut(x))``, each branch with a batch norm of its own.

    (n, inputs, h, w) -> (n, outputs, ceil(h/stride), ceil(w/stride)). The shortcut is there where the shapes agree.
    All three are linear in x, so that `reparameterize` can put one convolution in their place.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        kernel: Kernel size of the dense branch.
        stride: Stride of both convolutions.
        groups: Groups of both convolutions; the variants g2 and g4 of the paper have more than one in every other
            block.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.dense = conv_bn(inputs, outputs, kernel, stride=stride, groups=groups)
        self.pointwise = conv_bn(inputs, outputs, stride=stride, groups=groups)
        self.shortcut = nn.BatchNorm2d(inputs) if stride == 1 and inputs == outputs else None
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.dense(x) + self.pointwise(x)
        if self.shortcut is not None:
            total = total + self.shortcut(x)
        out: torch.Tensor = self.activation(total)
        return out

    def reparameterize(self) -> nn.Module:
        """One convolution with bias and the activation, which compute what this block computes in eval mode.

        The new module has this one's device, dtype and mode. A block of which a branch is no longer a plain
        convolution and batch norm, because a compression step replaced it, comes back as a copy of itself.
        """
        branches = [self.dense, self.pointwise]
        if not all(_is_plain(branch) for branch in branches) or not (self.shortcut is None or _folds(self.shortcut)):
            return copy.deepcopy(self)
        dense, pointwise = branches[0][0], branches[1][0]
        assert isinstance(dense, nn.Conv2d) and isinstance(pointwise, nn.Conv2d)
        with torch.no_grad():
            margin = (dense.kernel_size[0] - 1) // 2
            scale, bias = _affine(self.dense[1])
            weight = dense.weight.double() * scale.view(-1, 1, 1, 1)
            scale, shift = _affine(self.pointwise[1])
            centre = pointwise.weight.double() * scale.view(-1, 1, 1, 1)
            bias = bias + shift
            if self.shortcut is not None:
                scale, shift = _affine(self.shortcut)
                # Output channel i takes its own input, which is number i modulo the width within its group.
                width = dense.in_channels // dense.groups
                own = torch.eye(width, dtype=torch.float64, device=weight.device).repeat(dense.groups, 1)
                centre = centre + (own * scale.view(-1, 1)).view(centre.shape)
                bias = bias + shift
            weight = weight + functional.pad(centre, [margin] * 4)
        convolution = copy.deepcopy(dense)
        like, learned = dense.weight.dtype, dense.weight.requires_grad
        convolution.weight = nn.Parameter(weight.to(like), requires_grad=learned)
        convolution.bias = nn.Parameter(bias.to(like), requires_grad=learned)
        return nn.Sequential(convolution, copy.deepcopy(self.activation)).train(self.training)


def _is_plain(branch: nn.Module) -> bool:
    """Whether the branch still is a convolution without bias and a batch norm."""
    return (
        type(branch) is nn.Sequential
        and len(branch) == 2
        and type(branch[0]) is nn.Conv2d
        and branch[0].bias is None
        and _folds(branch[1])
    )


def _folds(norm: nn.Module) -> bool:
    return type(norm) is nn.BatchNorm2d and norm.affine and norm.running_mean is not None


def _affine(norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and summand of each channel in eval mode, float64."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale
