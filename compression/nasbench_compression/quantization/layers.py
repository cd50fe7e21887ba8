"""The kinds of layers that the step can put in the place of a plain one, as the note names them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from nasbench_compression.checks import check_network
from nasbench_compression.quantization.calibration import Range, input_ranges
from nasbench_compression.quantization.dynamic import DynamicLinear
from nasbench_compression.quantization.folding import fold_checked
from nasbench_compression.quantization.modules import RESERVED, is_reduced, quantized_like
from nasbench_compression.quantization.weight_only import WeightOnly
from nasbench_compression.reference import Reference, deployed_copy, irreplaceable
from nasbench_compression.step import device_of
from nasbench_compression.surgery import replace_modules, why_not_plain
from nasbench_registry import UserError

Entry = dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A network with its batch norms folded, and the layers of it that can be quantized.

    Attributes:
        model: Copy of the network, with its batch norms folded.
        folded: Names of each convolution and of the norm that was folded into it.
        ranges: Smallest and largest input of each plain layer that runs, by name, as the calibration has them.
        left_float: Layers that stay as they are, by name, each with the reason.
        left_unfolded: Norms that could not be folded although their convolution is plain, each with the reason.
    """

    model: nn.Module
    folded: list[list[str]]
    ranges: dict[str, Range]
    left_float: dict[str, str]
    left_unfolded: dict[str, str]

    def layers(self) -> dict[str, nn.Conv2d | nn.Linear]:
        """The layers of `ranges`."""
        return {name: plain(self.model, name) for name in self.ranges}


def prepare(
    model: nn.Module, images: Tensor, calibration: str = "min_max", percentile: float = 99.99
) -> tuple[Prepared, Tensor]:
    """Merge branches (`reparameterize`), fold batch norms, and read the ranges of inputs.

    Args:
        model: Float network; it is not changed.
        images: Images (m, c, h, w) of the network's type.
        calibration: Calibration, see `input_ranges`.
        percentile: Percentile, see `input_ranges`.

    Returns:
        What was prepared, and the images on the device of the network.

    Raises:
        UserError: The network is quantized already, does not run on the images, or has nothing to quantize.
    """
    refuse_reduced(model)
    check_network("quantize", model, {"calibration": images})
    images = images.to(device_of(model))
    merged, reference = deployed_copy("quantize", model, images)
    folded, pairs, left_unfolded = fold_checked(merged, reference)
    left_float = {name: reason for name, module in _weighted(folded) if (reason := _why_float(module)) is not None}
    names = [name for name, _ in _weighted(folded) if name not in left_float]
    measured_ranges = input_ranges(folded, images, calibration, percentile, [plain(folded, name) for name in names])
    ranges = {}
    for name in names:
        layer_range = measured_ranges.get(plain(folded, name))
        if layer_range is None:
            left_float[name] = "no image passes it as a module"
        elif not all(math.isfinite(end) for end in layer_range):
            left_float[name] = "its inputs are not finite for some image"
        else:
            ranges[name] = layer_range
    left_float |= irreplaceable(folded, list(ranges), Reference.of("quantize", folded, images))
    ranges = {name: ends for name, ends in ranges.items() if name not in left_float}
    if not ranges:
        raise UserError(
            f"this network has no Conv2d or Linear to quantize ({_reasons(folded, left_float)}); "
            f"leave `quantize` out of the recipe."
        )
    return Prepared(folded, [list(pair) for pair in pairs], ranges, left_float, left_unfolded), images


def refuse_reduced(model: nn.Module) -> None:
    """UserError if the step, or torch itself, has quantized the network."""
    if is_reduced(model):
        raise UserError("this network is quantized already; quantize the network of the stage before instead.")
    for name, module in model.named_modules():
        if type(module).__module__.startswith(_QUANTIZED_BY_TORCH):
            raise UserError(
                f"this network is quantized already, for {name} is a {type(module).__module__}."
                f"{type(module).__name__}; quantize the float network it was made from."
            )


_QUANTIZED_BY_TORCH = ("torch.ao.nn.quantized", "torch.ao.nn.qat", "torch.ao.nn.intrinsic", "torch.ao.quantization")


def _weighted(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers of torch that have a weight, norms apart, with their names."""
    layers = []
    for name, module in model.named_modules():
        parameters = [value for value in module._parameters.values() if value is not None]
        in_torch = any(kind.__module__.startswith("torch.nn.modules") for kind in type(module).__mro__[:-2])
        listed = isinstance(module, nn.Conv2d | nn.Linear) or (in_torch and any(value.ndim > 1 for value in parameters))
        if listed and not isinstance(module, ParametrizationList):
            layers.append((name, module))
    return layers


def _why_float(module: nn.Module) -> str | None:
    """Why a layer stays as it is, whatever passes it; None if nothing is known against it."""
    clash = RESERVED.intersection(vars(module))
    return why_not_plain(module) or (
        f"its attribute {min(clash)!r} has a name that quantized layers need for themselves" if clash else None
    )


def _reasons(model: nn.Module, left_float: Mapping[str, str]) -> str:
    """Why nothing of the network can be quantized, in words."""
    if left_float:
        return "; ".join(f"{name}: {reason}" if name else reason for name, reason in left_float.items())
    bare = [name for name, parameter in model.named_parameters() if parameter.ndim > 1]
    return (
        f"its weights are parameters that no such layer holds: {', '.join(bare[:3])}" if bare else "it has no weights"
    )


def plain(model: nn.Module, name: str) -> nn.Conv2d | nn.Linear:
    """The layer of this name."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Conv2d | nn.Linear), f"{name} is a {type(layer).__name__}"
    return layer


def entry_of(kind: str, input_range: Range, *, group_size: int = 32, symmetric: bool = True) -> Entry:
    """What the note says of a layer; `put` makes the layer from it.

    Args:
        kind: Kind of the layer: "static", "dynamic", "int8" or "int4", of which the last two have weights only.
        input_range: Smallest and largest input, for "static".
        group_size: Weights that share a scale, for weights only.
        symmetric: Whether levels lie symmetric around zero, for weights only.
    """
    if kind == "static":
        return {"low": input_range[0], "high": input_range[1]}  # as the first version of this step wrote it
    if kind == "dynamic":
        return {"kind": "dynamic"}
    return {"kind": "weight_only", "bits": int(kind[3:]), "group_size": group_size, "symmetric": symmetric}


def put(model: nn.Module, entries: Mapping[str, Entry], *, with_values: bool = True) -> nn.Module:
    """Put quantized layers in the place of plain ones, in place.

    Args:
        model: Network with its batch norms folded.
        entries: Entries of the layers, as `entry_of` gives them, by name of the layer.
        with_values: Whether the weights are taken over; otherwise they are left to a state_dict.
    """
    replacements: dict[nn.Module, nn.Module] = {}
    for name, entry in entries.items():
        layer = plain(model, name)
        kind = entry.get("kind", "static")
        if kind == "static":
            static = quantized_like(layer)
            if with_values:
                static.set_values(layer, entry["low"], entry["high"])
            quantized: nn.Module = static
        elif kind == "dynamic":
            assert isinstance(layer, nn.Linear), f"{name} is no linear layer"
            dynamic = DynamicLinear(layer)
            if with_values:
                dynamic.set_weights(layer)
            quantized = dynamic
        else:
            options = {key: value for key, value in entry.items() if key != "kind"}
            weight_only = WeightOnly(layer, **options)
            if with_values:
                weight_only.set_values(layer)
            quantized = weight_only
        replacements[layer] = quantized.train(layer.training)
    return replace_modules(model, replacements)
