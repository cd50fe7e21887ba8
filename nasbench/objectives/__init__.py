"""Metrics, limits, rewards, the Pareto front, hypervolume."""
