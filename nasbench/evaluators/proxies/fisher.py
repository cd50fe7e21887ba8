"""fisher: what the loss would change by without a channel (Turner et al., BlockSwap, ICLR 2020, arXiv 1906.04113)."""

from __future__ import annotations

from nasbench.evaluators.proxies.probe import Probe


def fisher(probe: Probe) -> float:
    """Half the mean over images of the square of (activation times dL/d activation, summed over positions), eq. 3.

    Summed over the channels of the outputs of all convolutions and linear layers, as in Abdelfattah et al., arXiv
    2101.08134. The tokens of a linear layer are its positions.
    """
    for half in probe.halves:
        probe.loss_gradients(half)  # says what is missing
    return sum(half.fisher or 0.0 for half in probe.halves) / 2
