"""Removing weights: whole channels, attention heads, residual blocks."""
