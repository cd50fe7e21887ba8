"""What a network costs on paper: multiply-adds, parameters, bytes.

One multiply-add is one MAC and two FLOPs. fvcore calls MACs "flops"; the names here say what is counted.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import torch
from torch import nn

from compression.surgery import inference
from search_spaces import Task


@dataclass(frozen=True)
class Cost:
    """Costs of one image.

    Attributes:
        macs: multiply-adds, batch norm included as fvcore counts it.
        params: parameters.
        size_bytes: bytes of parameters and buffers.
        uncounted: operators that fvcore could not count, with how often they occur.
    """

    macs: int
    params: int
    size_bytes: int
    uncounted: dict[str, int]


def cost(model: nn.Module, task: Task) -> Cost:
    """Count with fvcore; each module keeps its mode.

    Operators that fvcore cannot count are in `uncounted`: additions and most activations, which multiply nothing that
    the field counts. It leaves out ReLU, reshapes and the like, which it holds to be free.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing fvcore warns about torch.jit
        from fvcore.nn import FlopCountAnalysis
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with inference(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(model, torch.zeros(1, *task.input_shape))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        macs, uncounted = int(analysis.total()), dict(analysis.unsupported_ops())
    return Cost(macs, sum(parameter.numel() for parameter in model.parameters()), stored_bytes(model), uncounted)


def stored_bytes(model: nn.Module) -> int:
    """Bytes of the tensors that are stored with the model."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
