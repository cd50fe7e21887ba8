"""A recipe in a file of its own."""

from __future__ import annotations

from pathlib import Path

from nasbench_compression import Recipe
from nasbench_registry import UserError
from nasbench_registry.files import read_yaml


def read_recipe(path: Path) -> Recipe:
    """The recipe of a YAML file: a list of steps, or the list under the key `recipe`.

    Raises:
        UserError: It cannot be read, is neither, or a step or the order is wrong.
    """
    written = read_yaml(path)
    if isinstance(written, dict):
        if "recipe" not in written:
            raise UserError(f"{path} has no key 'recipe'; write a list of steps, or put the list under that key.")
        written = written["recipe"]
    return Recipe.parse(written)
