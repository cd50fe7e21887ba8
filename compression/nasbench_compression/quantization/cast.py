"""Networks stored in 16 bits: fp16 (IEEE binary16) or bf16 (the upper half of a float32).

Micikevicius et al., Mixed Precision Training, ICLR 2018, arXiv:1710.03740; Kalamkar et al., A Study of BFLOAT16 for
Deep Learning Training, 2019, arXiv:1905.12322.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nasbench_compression.copying import copy_network
from nasbench_compression.quantization.modules import Reduced
from nasbench_registry import UserError

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class HalfNetwork(Reduced):
    """A network whose floating-point parameters and buffers are stored in 16 bits; it takes and gives what it did.

    It computes in the types that it had, float32 as a rule, with the rounded weights, as what is exported does: this
    torch has no fast fp16 convolution for the CPU. Deviation from both papers: activations are not rounded.

    Args:
        network: Network that becomes the part `network`; it is changed.
        precision: "fp16" or "bf16".
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.precision = precision
        self.types = {name: value.dtype for name, value in _floats(network)}
        self.network = _in_types(network, dict.fromkeys(self.types, DTYPES[precision]))
        self.train(network.training)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Outputs of the network."""
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]  # it is public; and tracing cannot replace weights for a call
            return self.to_float()(*args, **kwargs)
        # Not `torch.func.functional_call`: that leaves a wide weight behind in a layer that has two names and a twin.
        narrow = [(value, value.data) for _, value in _floats(self.network)]
        _in_types(self.network, self.types)
        try:
            return self.network(*args, **kwargs)
        finally:
            for value, data in narrow:
                value.data = data

    def to_float(self) -> nn.Module:
        """The network in the types that it had, with the rounded weights."""
        return _in_types(copy_network(self.network), self.types)

    def extra_repr(self) -> str:
        """The precision."""
        return f"precision={self.precision}"


def cast(model: nn.Module, precision: str) -> HalfNetwork:
    """The network in 16 bits; `model` is changed.

    Raises:
        UserError: The network has no weights, complex ones, or one that is too large for fp16.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_complex():
            raise UserError(f"{name} is complex, which {precision} cannot hold; leave `quantize` out of the recipe.")
    if not _floats(model):
        raise UserError(f"this network has no weights to store in {precision}; leave `quantize` out of the recipe.")
    for name, value in _floats(model):
        values = value.coalesce().values() if value.layout is torch.sparse_coo else value
        finite = values[values.isfinite()]
        if not finite.to(DTYPES[precision]).isfinite().all():
            raise UserError(
                f"{name} has values up to {float(finite.detach().abs().max()):g}, too large for {precision}; "
                f"take precision bf16."
            )
    return HalfNetwork(model, precision)


def rounded_weights(model: nn.Module, precision: str) -> nn.Module:
    """A copy in its own types whose weights have values that 16 bits can hold."""
    types = {name: value.dtype for name, value in _floats(model)}
    return _in_types(_in_types(copy_network(model), dict.fromkeys(types, DTYPES[precision])), types)


def _floats(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers that are real numbers, with their names."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return [(name, value) for name, value in named if value.is_floating_point()]


def _in_types(model: nn.Module, types: Mapping[str, torch.dtype]) -> nn.Module:
    """The network with these types, in place, so that what several modules share they go on sharing."""
    for name, value in _floats(model):
        value.data = value.data.to(types[name])
    return model
