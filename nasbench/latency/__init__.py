"""Latency predicted: calibration, predictors, transfer between devices."""

from nasbench_registry.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
