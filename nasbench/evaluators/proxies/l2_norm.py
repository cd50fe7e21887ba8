"""l2_norm: the size of the weights (Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, arXiv 2101.08134)."""

from __future__ import annotations

from nasbench.evaluators.proxies.probe import Probe


def l2_norm(probe: Probe) -> float:
    """The sum over convolutions and linear layers of the Euclidean norm of their weights."""
    return float(sum(weight.detach().norm() for weight in probe.weights))
