"""Networks stored in 16 bits: fp16 (IEEE binary16) or bf16 (the upper half of a float32).

Micikevicius et al., Mixed Precision Training, ICLR 2018, arXiv:1710.03740; Kalamkar et al., A Study of BFLOAT16 for
Deep Learning Training, 2019, arXiv:1905.12322.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nasbench_compression.quantization.modules import Reduced
from nasbench_registry import UserError

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class HalfNetwork(Reduced):
    """A network whose floating-point parameters and buffers are stored in 16 bits; it takes and gives float32.

    It computes in float32 with the rounded weights, as what is exported does: this torch has no fast fp16 convolution
    for the CPU. Deviation from both papers: activations are not rounded.

    Args:
        network: becomes the part `network`, and is changed.
        precision: "fp16" or "bf16".
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.precision = precision
        self.network = network.to(DTYPES[precision])
        self.train(network.training)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) float32 of images (n, c, h, w) float32."""
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]  # it is public; and tracing cannot replace weights for a call
            traced: Tensor = self.to_float()(images)
            return traced
        state = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        wide = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
        logits: Tensor = functional_call(self.network, wide, (images,))
        return logits

    def to_float(self) -> nn.Module:
        """The network in float32, with the rounded weights."""
        return copy.deepcopy(self.network).float()

    def extra_repr(self) -> str:
        """The precision."""
        return f"precision={self.precision}"


def cast(model: nn.Module, precision: str) -> HalfNetwork:
    """The network in 16 bits; `model` is changed.

    Raises:
        UserError: a weight is too large for fp16.
    """
    for name, value in model.state_dict().items():
        if value.is_floating_point() and value.isfinite().all() and not value.to(DTYPES[precision]).isfinite().all():
            raise UserError(
                f"{name} has values up to {float(value.abs().max()):g}, too large for {precision}; take precision bf16."
            )
    return HalfNetwork(model, precision)
