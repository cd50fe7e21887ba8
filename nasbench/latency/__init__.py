"""Latency predicted: calibration, predictors, transfer between devices."""
