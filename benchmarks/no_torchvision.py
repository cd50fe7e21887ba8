"""Lets libraries of networks be imported where torchvision is not installed: timm and segmentation-models-pytorch.

Both import it for their data pipelines, and build networks without it. Its wheels for the CPU are not to be had from
every index.
"""

from __future__ import annotations

import contextlib
import enum
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any


class InterpolationMode(enum.Enum):
    """The names that timm looks up when it is imported."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


class Placeholders(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules below torchvision, whose every attribute is a class that nothing is an instance of."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """A module for torchvision and what lies below it."""
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """A module that has any attribute that is read."""
        module = types.ModuleType(spec.name)
        module.__dict__["__getattr__"] = _placeholder
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: the module has no code."""


def _placeholder(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return InterpolationMode if name == "InterpolationMode" else type(name, (), {})


@contextlib.contextmanager
def without_torchvision() -> Iterator[None]:
    """While libraries are imported in the block, placeholders stand in for torchvision, if it is not installed."""
    if importlib.util.find_spec("torchvision") is not None:
        yield
        return
    finder = Placeholders()
    sys.meta_path.append(finder)
    try:
        yield
    finally:  # others, such as Transformers, ask whether it is there, and go without it
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
