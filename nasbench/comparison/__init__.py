"""Runs side by side: hypervolume over time, and which way of searching was better."""
