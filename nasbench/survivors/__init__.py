"""Survivors of a search, from the trained network to the artefact."""
