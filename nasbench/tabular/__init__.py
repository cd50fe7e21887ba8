"""Tabular benchmarks: published measurements of every architecture of a space, looked up in place of training."""
