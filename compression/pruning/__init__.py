"""Removing weights: whole channels."""
