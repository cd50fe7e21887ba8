"""Learning from a larger network."""
