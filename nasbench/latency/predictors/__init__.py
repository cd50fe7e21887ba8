"""Latency predictors: one file each, behind one contract."""

from nasbench_registry.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
