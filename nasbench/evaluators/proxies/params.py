"""params: how many trainable parameters a network has."""

from __future__ import annotations

from nasbench.evaluators.proxies.probe import Probe


def params(probe: Probe) -> float:
    """Their number."""
    return float(sum(parameter.numel() for parameter in probe.given.parameters()))
