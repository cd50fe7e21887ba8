"""macs: multiply-adds of one image; 1 MAC is one multiply-add, which some call two FLOPs and others one."""

from __future__ import annotations

from nasbench.evaluators.proxies.probe import Probe
from nasbench_compression.macs import multiply_adds


def macs(probe: Probe) -> float:
    """The number of multiply-adds, see `nasbench_compression.macs.multiply_adds`."""
    return float(multiply_adds(probe.original, probe.images[:1]).total)
