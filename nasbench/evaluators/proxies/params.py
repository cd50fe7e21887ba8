"""params: how many trainable parameters a network has."""

from __future__ import annotations

from nasbench.evaluators.proxies.probe import Probe


def params(probe: Probe) -> float:
    """The number of trainable parameters."""
    return float(sum(parameter.numel() for parameter in probe.original.parameters()))
