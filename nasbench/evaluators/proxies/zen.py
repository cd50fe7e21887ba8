"""zen: how much the features of a Gaussian network move with its input (Lin et al., Zen-NAS, arXiv 2102.01063)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasbench.evaluators.proxies.probe import Probe, hooked
from nasbench_compression.outputs import logits_of

MIXED = 1e-2


def zen(probe: Probe) -> float:
    """The logarithm of |f(x) - f(x + 0.01 e)|, and of the deviations that batch norms divide by (algorithm 1).

    Weights and images are normal numbers of deviation one; f are the last features that have positions, before they are
    pooled, and in a network without positions what it gives. |f| is the sum over all features, the mean over images.
    The deviation of a batch norm is the root of the mean variance of its channels.

    Deviations: the sum of |difference|, as in the authors' code, where the paper has the Frobenius norm; residual
    connections stay.
    """
    network = probe.renewed(lambda weight, generator: weight.copy_(_normal(weight, generator)))
    features: list[Tensor] = []
    deviations: list[float] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim > 2 and output[0, 0].numel() > 1:
            features[:] = [output]

    def normalized(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        axes = [axis for axis in range(inputs[0].ndim) if axis != 1]
        deviations.append(float(inputs[0].var(axes, unbiased=False).mean().clamp(min=1e-30).sqrt()))

    leaves = [module for module in network.modules() if next(module.children(), None) is None]
    hooks = [(module, keep) for module in leaves]
    last_features = []
    images = probe.noise()
    with torch.no_grad():
        norms = [(module, normalized) for module in leaves if isinstance(module, _BatchNorm)]
        for batch in (images, images + MIXED * probe.noise(stream=1)):
            with hooked([*hooks, *norms]):
                outputs = network(batch)
            last_features.append(features[0] if features else logits_of(outputs))
            norms = []  # those of the first batch
    moved = (last_features[0] - last_features[1]).abs().double().flatten(1).sum(1).mean().clamp(min=1e-30)
    scale = torch.tensor(deviations, dtype=torch.float64).log().sum() if deviations else torch.tensor(0.0)
    return float(moved.log() + scale)


def _normal(weight: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(weight.shape, generator=generator)
