"""swap: how many patterns the units have over the images (Peng et al., SWAP-NAS, ICLR 2024, arXiv 2403.04161)."""

from __future__ import annotations

import torch

from nasbench.evaluators.proxies.probe import Probe

BITS = 32


def swap(probe: Probe) -> float:
    """The number of different sample-wise activation patterns, definition 3.2: over the units, which images turn it on.

    Deviations: the first 32 images; a unit is on where the output of a ReLU, or of another activation, is above zero;
    without the regularization of definition 3.4, whose two constants are chosen for a space.
    """
    count = min(BITS, len(probe.images))
    codes = []
    for pattern in probe.patterns():
        bits = 2 ** torch.arange(count, dtype=torch.float64)
        codes.append(bits @ pattern[:count].double())  # exact: below 2 ** 53
    return float(len(torch.unique(torch.cat(codes)))) if codes else 0.0
