"""Weight sharing: one training, every network."""
