"""Trials of the engine itself: what it loses when things break, and what it costs when they do not."""
