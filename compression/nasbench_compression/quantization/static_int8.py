"""Static post-training quantization to int8, after Jacob et al., CVPR 2018, arXiv:1712.05877."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nasbench_compression.quantization.layers import entry_of, prepare, put


def quantize_static(
    model: nn.Module, images: Tensor, calibration: str = "min_max", percentile: float = 99.99
) -> tuple[nn.Module, dict[str, Any]]:
    """A quantized copy of a float network and a note of what was done.

    Branches are merged where they can be, see `reparameterize`, then batch norm is folded. Every plain `Conv2d` and
    `Linear` that runs gets int8 weights and a uint8 input whose range is read from `images`.

    Args:
        model: Float network; it is not changed.
        images: Images (m, c, h, w), float32.
        calibration: Calibration: "min_max", "percentile" or "entropy", see `input_ranges`.
        percentile: Percentile of "percentile", in percent.

    Returns:
        The network, and a note: `folded` ([[convolution, norm]]), `layers` ({name: {"low", "high"}}) and `left_float`
        ({name: reason}).

    Raises:
        UserError: The network is quantized already, or has nothing to quantize.
    """
    prepared, _ = prepare(model, images, calibration, percentile)
    layers = {name: entry_of("static", input_range) for name, input_range in prepared.ranges.items()}
    quantized = put(prepared.model, layers)
    return quantized, {"folded": prepared.folded, "layers": layers, "left_float": prepared.left_float}
