"""Weight sharing: one training that gives every network of a space."""
