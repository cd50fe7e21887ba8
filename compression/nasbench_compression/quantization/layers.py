"""The kinds of layers that the step can put in the place of a plain one, as the note names them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nasbench_compression.quantization.calibration import Range, input_ranges
from nasbench_compression.quantization.dynamic import DynamicLinear
from nasbench_compression.quantization.folding import find_pairs, fold
from nasbench_compression.quantization.modules import is_reduced, quantized_like
from nasbench_compression.quantization.weight_only import WeightOnly
from nasbench_compression.reparameterization import reparameterize
from nasbench_compression.step import device_of
from nasbench_compression.surgery import replace_module
from nasbench_registry import UserError

Entry = dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A network with its batch norms folded, and the layers of it that can be quantized.

    Attributes:
        model: a copy of the network it was made from.
        folded: names of each convolution and the norm that went into it.
        ranges: smallest and largest input of each plain layer that runs, by name, as the calibration has them.
        left_float: names of layers that do not run, or are no plain `Conv2d` or `Linear`.
    """

    model: nn.Module
    folded: list[list[str]]
    ranges: dict[str, Range]
    left_float: list[str]

    def layers(self) -> dict[str, nn.Conv2d | nn.Linear]:
        """The layers of `ranges`."""
        return {name: plain(self.model, name) for name in self.ranges}


def prepare(
    model: nn.Module, images: Tensor, calibration: str = "min_max", percentile: float = 99.99
) -> tuple[Prepared, Tensor]:
    """Merge branches (`reparameterize`), fold batch norms, and read the ranges of inputs.

    Args:
        model: a float network; left as it was.
        images: (m, c, h, w) float32.
        calibration: see `input_ranges`.
        percentile: see `input_ranges`.

    Returns:
        What was prepared, and the images on the device of the network.

    Raises:
        UserError: the network is quantized already, or has nothing to quantize.
    """
    if is_reduced(model):
        raise UserError("this network is quantized already; quantize the network of the stage before instead.")
    images = images.to(device_of(model))
    made = reparameterize(copy.deepcopy(model))
    pairs = find_pairs(made, images[:1])
    made = fold(made, pairs)
    found = input_ranges(made, images, calibration, percentile)
    kinds = [(name, module) for name, module in made.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    ranges = {name: found[module] for name, module in kinds if module in found}
    if not ranges:
        raise UserError("this network has no Conv2d or Linear to quantize; leave `quantize` out of the recipe.")
    left_float = [name for name, module in kinds if module not in found]
    return Prepared(made, [list(pair) for pair in pairs], ranges, left_float), images


def plain(model: nn.Module, name: str) -> nn.Conv2d | nn.Linear:
    """The layer of this name."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Conv2d | nn.Linear), f"{name} is a {type(layer).__name__}"
    return layer


def entry_of(kind: str, found: Range, *, group_size: int = 32, symmetric: bool = True) -> Entry:
    """What the note says of a layer; `made_like` makes the layer from it.

    Args:
        kind: "static", "dynamic", "int8" or "int4", of which the last two are weights only.
        found: smallest and largest input, for "static".
        group_size: for weights only.
        symmetric: for weights only.
    """
    if kind == "static":
        return {"low": found[0], "high": found[1]}  # as the first version of this step wrote it
    if kind == "dynamic":
        return {"kind": "dynamic"}
    return {"kind": "weight_only", "bits": int(kind[3:]), "group_size": group_size, "symmetric": symmetric}


def put(model: nn.Module, entries: Mapping[str, Entry], *, with_values: bool = True) -> nn.Module:
    """Put quantized layers in the place of plain ones, in place.

    Args:
        model: with its batch norms folded.
        entries: of `entry_of`, by name of the layer.
        with_values: take over the weights; otherwise they are left to a state_dict.
    """
    for name, entry in entries.items():
        layer = plain(model, name)
        kind = entry.get("kind", "static")
        if kind == "static":
            static = quantized_like(layer)
            if with_values:
                static.set_values(layer, entry["low"], entry["high"])
            made: nn.Module = static
        elif kind == "dynamic":
            assert isinstance(layer, nn.Linear), f"{name} is no linear layer"
            dynamic = DynamicLinear(layer)
            if with_values:
                dynamic.set_weights(layer)
            made = dynamic
        else:
            options = {key: value for key, value in entry.items() if key != "kind"}
            weight_only = WeightOnly(layer, **options)
            if with_values:
                weight_only.set_values(layer)
            made = weight_only
        model = replace_module(model, layer, made.train(layer.training))
    return model
