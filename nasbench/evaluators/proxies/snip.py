"""snip: what the loss would change by without a weight (Lee, Ajanthan & Torr, SNIP, ICLR 2019, arXiv 1810.02340)."""

from __future__ import annotations

from nasbench.evaluators.proxies.probe import Probe


def snip(probe: Probe) -> float:
    """The sum of |w dL/dw| over the weights, eq. 4, summed as in Abdelfattah et al., arXiv 2101.08134."""
    pairs = zip(probe.weights, probe.gradients, strict=True)
    return float(sum((weight.detach() * gradient).abs().sum() for weight, gradient in pairs))
