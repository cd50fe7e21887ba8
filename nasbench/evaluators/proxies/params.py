"""params: how many parameters a network has."""

from __future__ import annotations

from nasbench.evaluators.proxies.probe import Probe


def params(probe: Probe) -> float:
    """The number of parameters, frozen ones included."""
    return float(sum(parameter.numel() for parameter in probe.original.parameters()))
