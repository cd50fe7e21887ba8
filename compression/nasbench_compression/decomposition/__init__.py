"""Replacing a weight tensor by a product of smaller ones."""
