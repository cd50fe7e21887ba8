"""Attention of torch in its parts: linear layers and products, for whoever looks at single operators."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def no_fast_path() -> Iterator[None]:
    """Run the block without the single operation that stands for a whole attention or transformer layer."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
