"""The experiment file, and the parts that are made of it."""
