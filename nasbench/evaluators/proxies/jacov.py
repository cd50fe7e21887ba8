"""jacov: how differently images move the output (Mellor et al., version 1 of arXiv 2006.04647)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nasbench.evaluators.proxies.probe import Probe

SMALL = 1e-5


def jacov(probe: Probe) -> float:
    """Minus the sum of log(v + k) + 1 / (v + k) over the eigenvalues v of the correlations of the images' Jacobians.

    The Jacobian of an image is that of the sum of all outputs; k is 1e-5. Minus infinity where that of an image is
    constant, as it is if no path leads from the input to the output.
    """
    matrix = correlations(probe.jacobian)
    if not bool(torch.isfinite(matrix).all()):
        return -math.inf
    values = torch.linalg.eigvalsh(matrix).clamp(min=0)
    return -float((torch.log(values + SMALL) + 1 / (values + SMALL)).sum())


def correlations(rows: Tensor) -> Tensor:
    """(n, n) in double precision; NaN where a row is constant."""
    return torch.corrcoef(rows.double()).reshape(len(rows), len(rows))
