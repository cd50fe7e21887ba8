"""Tabular benchmarks: published measurements of every architecture of a space, looked up in place of training."""

from nasbench_registry.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
