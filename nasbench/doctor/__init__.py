"""Faults of an installation or a machine, in one sentence each, with the command that mends it."""
