"""Putting another module in the place of one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from nasbench_compression.zeros import pass_mark


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put `new` wherever `old` is, under each of its names; returns the network, which is `new` if `old` was all.

    A weight of the same name and shape in both stays sparse if it was: see `nasbench_compression.zeros`.
    """
    pass_mark(old, new)
    if model is old:
        return new
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children() leaves out a second name
            if child is old:
                setattr(parent, name, new)
    return model


@contextlib.contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each module gets its own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
