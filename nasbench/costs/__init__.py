"""Costs of a network on paper: parameters, multiply-adds, bytes moved, memory, work."""
