"""Linear layers with int8 weights whose inputs are rounded to the range that each batch has.

Dynamic quantization needs no images beforehand and finds its range while it runs, which costs a pass over the inputs.
The range is that of the whole batch, as in ONNX Runtime, so that what an image gives may differ a little with the batch
it is in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasbench_compression.quantization.modules import Int8Weights, as_type


class DynamicLinear(Int8Weights):
    """A linear layer with int8 weights and inputs; (..., in_features) to (..., out_features).

    Args:
        layer: Layer whose shape it takes; its values come with `set_weights` or a state_dict.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        self._set_buffers(layer.weight, layer.bias)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        inputs = as_type(input, torch.float32)
        low, high = inputs.detach().amin().clamp(max=0), inputs.detach().amax().clamp(min=0)
        scale = (high - low).clamp(min=1e-12) / 255
        zero_point = torch.round(-low / scale).clamp(0, 255)
        rounded = (torch.clamp(torch.round(inputs / scale) + zero_point, 0, 255) - zero_point) * scale
        return as_type(functional.linear(rounded, self.dequantized_weight(), self.wide_bias), input.dtype)
