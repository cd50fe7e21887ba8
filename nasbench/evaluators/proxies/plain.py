"""plain: weights times gradients (Mozer & Smolensky 1989, Skeletonization; Abdelfattah et al., arXiv 2101.08134)."""

from __future__ import annotations

from nasbench.evaluators.proxies.probe import Probe


def plain(probe: Probe) -> float:
    """The sum of w dL/dw over the weights of convolutions and linear layers, with its sign."""
    pairs = zip(probe.weights, probe.gradients, strict=True)
    return float(sum((weight.detach() * gradient).sum() for weight, gradient in pairs))
