"""az_nas: four views of a network (Lee & Ham, AZ-NAS: Assembling Zero-Cost Proxies, CVPR 2024, arXiv 2403.19232).

Expressivity, progressivity and trainability look at the features between the blocks of a network with Kaiming weights
and random images; complexity is `macs`. The paper adds the logarithms of the four ranks: see `log_rank_sum`.

Deviations: 16 random images, more of fewer than 32 x 32 pixels; blocks are those of `probe.blocks`, where the paper
names them for each space.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasbench.evaluators.proxies.probe import Probe, blocks, hooked

SMALL = 1e-6


def az_expressivity(probe: Probe) -> float:
    """The sum over blocks of the entropy of the normalized eigenvalues of the covariance of their channels."""
    return sum(_entropies(probe))


def az_progressivity(probe: Probe) -> float:
    """The smallest gain of expressivity from one block to the next."""
    entropies = _entropies(probe)
    return min((after - before for before, after in itertools.pairwise(entropies)), default=0.0)


def az_trainability(probe: Probe) -> float:
    """The mean over blocks of 2 - s - 1 / s, where s is the spectral norm of the Jacobian of a block, estimated.

    A gradient of random signs goes back through a block; s is the largest singular value of the mean product of what
    comes out and what went in. A block that gives back what went in learns nothing, and the score is minus infinity.
    """
    return _views(probe)[1]


def _entropies(probe: Probe) -> list[float]:
    return _views(probe)[0]


def _views(probe: Probe) -> tuple[list[float], float]:
    """Entropies of the blocks, and trainability."""

    def look() -> tuple[list[float], float]:
        network = probe.renewed(_kaiming)
        features: list[Tensor] = []
        images = probe.noise().requires_grad_(True)

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            stem = [value for value in inputs[:1] if not features and value is not images]
            features.extend(value for value in (*stem, output) if isinstance(value, Tensor) and value.ndim > 1)

        with hooked([(block, keep) for block in blocks(network)]), torch.enable_grad():
            network(images)
        return [_entropy(feature) for feature in features], _trainability(features, probe.seed)

    return probe.shared("az_nas", look)


def _kaiming(weight: Tensor, generator: torch.Generator) -> None:
    fan_in = weight[0].numel()
    weight.copy_(torch.randn(weight.shape, generator=generator) * math.sqrt(2 / fan_in))


def _channels_last(feature: Tensor) -> Tensor:
    """(positions, channels); of features (n, channels, h, w), or (n, ..., channels) where there are no two axes."""
    moved = feature.movedim(1, -1) if feature.ndim == 4 else feature
    return moved.reshape(-1, moved.shape[-1])


def _entropy(feature: Tensor) -> float:
    rows = _channels_last(feature.detach())
    rows = rows - rows.mean(0, keepdim=True)
    values = torch.linalg.eigvalsh((rows.T @ rows / len(rows)).double()).clamp(min=0)
    total = values.sum()
    if not total > 0:
        return 0.0
    shares = values / total
    return float(-(shares * torch.log(shares + 1e-8)).sum())


def _trainability(features: list[Tensor], seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    scores = []
    for before, after in reversed(list(itertools.pairwise(features))):
        outgoing = torch.randint(0, 2, after.shape, generator=generator, dtype=after.dtype) * 2 - 1
        incoming = None
        if before.requires_grad and after.requires_grad:
            (incoming,) = torch.autograd.grad(after, [before], outgoing, allow_unused=True)
        if incoming is None:  # nothing goes through
            incoming = torch.zeros_like(before)
        if incoming.shape == outgoing.shape and bool((incoming == outgoing).all()):
            return -math.inf
        if incoming.ndim == 4 and outgoing.ndim == 4 and incoming.shape[2:] != outgoing.shape[2:]:
            stride = max(1, round(incoming.shape[2] / outgoing.shape[2]))
            height, width = (size * stride for size in outgoing.shape[2:])
            incoming = functional.pixel_unshuffle(
                functional.pad(incoming, (0, width - incoming.shape[3], 0, height - incoming.shape[2])), stride
            )
        rows_in, rows_out = _channels_last(incoming), _channels_last(outgoing)
        if len(rows_in) != len(rows_out):
            continue  # tokens are merged, or positions are gone: no product of positions
        largest = float(torch.linalg.matrix_norm(rows_in.T @ rows_out / len(rows_out), ord=2))
        scores.append(2 - largest - 1 / (largest + SMALL))
    return sum(scores) / len(scores) if scores else -math.inf
