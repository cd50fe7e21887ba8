"""Static post-training quantization to int8, after Jacob et al., CVPR 2018, arXiv:1712.05877."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compression.checks import check_number
from compression.quantization.folding import find_pairs, fold
from compression.quantization.modules import is_quantized, quantized_like
from compression.reparameterization import reparameterize
from compression.step import Context, Step, device_of
from compression.surgery import inference, replace_module
from nasbench_registry import UserError, one_of

PRECISIONS = ("int8",)
METHODS = ("static",)
_BATCH = 64


def quantize_static(model: nn.Module, images: Tensor) -> tuple[nn.Module, dict[str, Any]]:
    """A quantized copy of a float network and a note of what was done.

    Branches are merged where they can be, see `reparameterize`, then batch norm is folded. Every plain `Conv2d` and
    `Linear` that runs gets int8 weights and a uint8 input whose range is the smallest and largest value that it sees
    on `images`.

    Args:
        model: a float network; left as it was.
        images: (m, c, h, w) float32.

    Returns:
        The network, and {"folded": [[convolution, norm]], "layers": {name: {"low", "high"}}, "left_float": [name]}.

    Raises:
        UserError: the network is quantized already, or has nothing to quantize.
    """
    if is_quantized(model):
        raise UserError("this network is quantized already; quantize the network of the stage before instead.")
    images = images.to(device_of(model))
    quantized = reparameterize(copy.deepcopy(model))
    pairs = find_pairs(quantized, images[:1])
    quantized = fold(quantized, pairs)
    ranges = _input_ranges(quantized, images)
    layers, left_float = {}, []
    for name, layer in list(quantized.named_modules()):
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if layer not in ranges:
            left_float.append(name)
            continue
        made = quantized_like(layer)
        made.set_values(layer, *ranges[layer])
        quantized = replace_module(quantized, layer, made)
        layers[name] = {"low": ranges[layer][0], "high": ranges[layer][1]}
    if not layers:
        raise UserError("this network has no Conv2d or Linear to quantize; leave `quantize` out of the recipe.")
    return quantized, {"folded": [list(pair) for pair in pairs], "layers": layers, "left_float": left_float}


def _input_ranges(model: nn.Module, images: Tensor) -> dict[nn.Module, tuple[float, float]]:
    """Smallest and largest input of each plain layer that runs as a module."""
    ranges: dict[nn.Module, tuple[float, float]] = {}

    def watch(module: nn.Module, args: Any) -> None:
        low, high = (float(value) for value in torch.aminmax(args[0]))
        if module in ranges:
            low, high = min(low, ranges[module][0]), max(high, ranges[module][1])
        ranges[module] = low, high

    # Subclasses may do anything with their weights, such as attention's output projection: they stay float.
    plain = [module for module in model.modules() if type(module) in (nn.Conv2d, nn.Linear)]
    handles = [module.register_forward_pre_hook(watch) for module in plain]
    try:
        with inference(model):
            for batch in torch.split(images, _BATCH):
                model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return ranges


@dataclass(frozen=True, kw_only=True)
class Quantize(Step):
    """Give convolutions and linear layers int8 weights and inputs, from calibration images and without training.

    Attributes:
        precision: "int8".
        method: "static": input ranges are fixed beforehand.
        calibration_images: number of images from which ranges are read; all, if there are fewer.

    Deviation from Jacob et al.: ranges are the extremes over the calibration images, without a moving average; the
    network computes in float32 what an integer kernel would compute. The note is that of `quantize_static`, and the
    number of images used.
    """

    name: ClassVar[str] = "quantize"
    stage: ClassVar[str] = "quantized"
    not_after: ClassVar[frozenset[str]] = frozenset({"quantize", "compile"})
    summary: ClassVar[str] = "static int8 quantization after training, batch norm folded"
    source: ClassVar[str] = (
        "Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only "
        "Inference, CVPR 2018, arXiv:1712.05877"
    )

    advice: ClassVar[str] = "set device.runtime to a backend with int8 kernels, such as onnxruntime"

    precision: str = "int8"
    method: str = "static"
    calibration_images: int = 128

    def __post_init__(self) -> None:
        one_of("quantize precision", self.precision, PRECISIONS)
        one_of("quantize method", self.method, METHODS)
        check_number("quantize calibration_images", self.calibration_images, at_least=1, integer=True)

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, dict[str, Any]]:
        """See `Step.apply`.

        Raises:
            UserError: as `quantize_static`.
        """
        images = context.calibration[: self.calibration_images]
        quantized, note = quantize_static(model, images)
        return quantized, {"precision": self.precision, "calibration_images": len(images), **note}

    def restore(self, model: nn.Module, note: dict[str, Any]) -> nn.Module:
        """See `Step.restore`."""
        model = reparameterize(copy.deepcopy(model))
        model = fold(model, [(convolution, norm) for convolution, norm in note["folded"]])
        for name in note["layers"]:
            layer = model.get_submodule(name)
            assert isinstance(layer, nn.Conv2d | nn.Linear), f"{name} of the note is a {type(layer).__name__}"
            model = replace_module(model, layer, quantized_like(layer))
        return model
