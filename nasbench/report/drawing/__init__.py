"""Graphs drawn as pictures."""
