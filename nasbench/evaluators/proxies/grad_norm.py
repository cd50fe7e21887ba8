"""grad_norm: the size of the gradients (Abdelfattah et al., ICLR 2021, arXiv 2101.08134)."""

from __future__ import annotations

from nasbench.evaluators.proxies.probe import Probe


def grad_norm(probe: Probe) -> float:
    """The sum over convolutions and linear layers of the Euclidean norm of dL/dw."""
    return float(sum(gradient.norm() for gradient in probe.gradients))
