"""Linear layers with int8 weights whose inputs are rounded to the range that each batch has.

Dynamic quantization needs no images beforehand and finds its range while it runs, which costs a pass over the inputs.
The range is that of the whole batch, as in ONNX Runtime, so that what an image gives may differ a little with the batch
it is in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from compression.quantization.modules import Reduced, quantize_weight


class DynamicLinear(Reduced):
    """A linear layer with int8 weights and inputs; (..., in_features) to (..., out_features).

    Args:
        layer: the layer whose shape it takes; its values come with `set_values` or a state_dict.
    """

    integer = True
    weight_int8: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        device = layer.weight.device
        self.register_buffer("weight_int8", torch.zeros(layer.weight.shape, dtype=torch.int8, device=device))
        self.register_buffer("weight_scale", torch.ones(len(layer.weight), device=device))
        self.register_buffer("bias", None if layer.bias is None else torch.zeros(len(layer.weight), device=device))

    def set_values(self, layer: nn.Linear) -> None:
        """Take over the weights of `layer`."""
        values, scale = quantize_weight(layer.weight)
        self.weight_int8.copy_(values)
        self.weight_scale.copy_(scale)
        if self.bias is not None:
            self.bias.copy_(layer.bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features), float32."""
        low, high = inputs.detach().amin().clamp(max=0), inputs.detach().amax().clamp(min=0)
        scale = (high - low).clamp(min=1e-12) / 255
        zero_point = torch.round(-low / scale).clamp(0, 255)
        rounded = (torch.clamp(torch.round(inputs / scale) + zero_point, 0, 255) - zero_point) * scale
        return functional.linear(rounded, self.dequantized_weight(), self.bias)

    def dequantized_weight(self) -> Tensor:
        """The float32 weight, each value a multiple of its channel's scale."""
        return self.weight_int8.float() * self.weight_scale[:, None]

    def to_float(self) -> nn.Linear:
        """An ordinary linear layer with the weights on the int8 grid."""
        outputs, inputs = self.weight_int8.shape
        layer = nn.Linear(inputs, outputs, bias=self.bias is not None, device=self.weight_int8.device)
        with torch.no_grad():
            layer.weight.copy_(self.dequantized_weight())
            if self.bias is not None:
                layer.bias.copy_(self.bias)
        return layer.train(self.training)
