"""Architectures as pictures: a graph is laid out, and written as SVG."""
