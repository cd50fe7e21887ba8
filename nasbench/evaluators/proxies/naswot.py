"""naswot: how many images the activations tell apart (Mellor et al., NAS without Training, arXiv 2006.04647)."""

from __future__ import annotations

import torch

from nasbench.evaluators.proxies.probe import Probe


def naswot(probe: Probe) -> float:
    """The logarithm of the determinant of the kernel of activation patterns, eq. 2.

    The kernel of two images is the number of rectified units that are on for both, or off for both. Deviation: a unit
    is on where the output of a ReLU, or of another activation, is above zero. Zero for a network without activations.
    """
    count = len(probe.images)
    kernel, patterns = torch.zeros(count, count, dtype=torch.float64), probe.patterns()
    for pattern in patterns:
        signs = pattern.float() * 2 - 1
        kernel += ((signs @ signs.T).double() + pattern.shape[1]) / 2  # agreements less disagreements, and their sum
    if not patterns:
        return 0.0
    return float(torch.linalg.slogdet(kernel + 1e-6 * torch.eye(count, dtype=torch.float64)).logabsdet)
