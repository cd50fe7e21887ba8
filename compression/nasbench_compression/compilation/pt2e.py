"""Static int8 of an exported network with the quantizers of torchao ("PyTorch 2 export")."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nasbench_compression.compilation.exported import silence
from nasbench_compression.quantization.modules import Reduced, is_quantized
from nasbench_registry import UserError


def quantize_exported(
    model: nn.Module, example_inputs: Tensor, calibration: Tensor, quantizer: Callable[[], Any]
) -> nn.Module:
    """The graph of the network with int8 weights and with operators that round between the layers.

    Args:
        model: Float32 network in evaluation mode, batch norm folded.
        example_inputs: Images (n, c, h, w), float32; n is fixed in the graph.
        calibration: Images (m, c, h, w), float32, from which the ranges are read.
        quantizer: Function that makes a quantizer of torchao or of a runtime, which says what is rounded, and how.

    Raises:
        UserError: Torchao is not installed.
    """
    if importlib.util.find_spec("torchao") is None:
        raise UserError("int8 by PyTorch's compilers needs torchao, which is not installed; run: pip install torchao")
    with silence():  # torchao tells of its kernels for GPUs when it is imported
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        graph = torch.export.export(model, (example_inputs,)).module()
        prepared = prepare_pt2e(graph, quantizer())
        for images in _batches(calibration, len(example_inputs)):
            prepared(images)
        converted: nn.Module = _without_float_weights(convert_pt2e(prepared))
    return converted


def _batches(images: Tensor, size: int) -> Iterator[Tensor]:
    """All images, `size` at a time; the last ones are filled up with the first ones, which changes no range."""
    for start in range(0, len(images), size):
        yield torch.stack(list(itertools.islice(itertools.cycle([*images[start:], *images[:start]]), size)))


def _without_float_weights(graph: Any) -> Any:
    """The graph, in place, without the parameters and buffers that it no longer reads but would be stored with."""
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    tensors = [*graph.named_parameters(remove_duplicate=False), *graph.named_buffers(remove_duplicate=False)]
    for name, _ in tensors:
        if name not in read:
            owner, _, attribute = name.rpartition(".")
            delattr(graph.get_submodule(owner), attribute)
    return graph


def exact_weights(config: Any) -> Any:
    """The configuration of a quantizer with the grid of the step `quantize`: levels -127 to 127, any scale.

    Weights that lie on that grid stay as they are. By default torchao takes -128 to 127 for some runtimes, and no
    scale below 2^-12, which rounds small weights to nothing.
    """
    from torchao.quantization.pt2e import PerChannelMinMaxObserver

    weight = dataclasses.replace(
        config.weight,
        quant_min=-127,
        quant_max=127,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=1e-12),
    )
    return dataclasses.replace(config, weight=weight)


def float_layers(model: nn.Module) -> list[str]:
    """Names of the layers with float weights in a network from the step `quantize`; none of an ordinary network."""
    if not is_quantized(model):
        return []
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) or (isinstance(module, Reduced) and not module.integer)
    ]
