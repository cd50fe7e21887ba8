"""From real images to the range of values that each layer's input may have.

The extremes cover every value; leaving out the rarest ones makes all others finer. "entropy" chooses how many to leave
out so that the distribution changes least: Migacz, 8-bit Inference with TensorRT, GTC 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasbench_compression.outputs import unwrapped
from nasbench_compression.surgery import inference, why_not_plain

CALIBRATIONS = ("min_max", "percentile", "entropy")
BINS = 2048
_BATCH = 64
_STRIDE = 8  # bins between two thresholds that "entropy" tries

Range = tuple[float, float]


def input_ranges(
    model: nn.Module,
    images: Tensor,
    calibration: str = "min_max",
    percentile: float = 99.99,
    layers: Sequence[nn.Module] | None = None,
) -> dict[nn.Module, Range]:
    """Smallest and largest input to be told apart, of each plain `Conv2d` and `Linear` that runs as a module.

    "min_max" takes the extremes. The other two take a histogram of 2048 bins between them in a second pass.
    "percentile" leaves out the share of values above `percentile`, and the same share at the lower end. "entropy"
    clips at the absolute value for which the clipped distribution and its image in 8 bits have the smallest
    Kullback-Leibler divergence. Deviations from Migacz: inputs without negative values have 256 levels in place of
    128; every eighth threshold is tried; and the first bin counts as the second, for zero, of which ReLU makes many,
    is exact in any range.

    Args:
        model: Network; it is not changed.
        images: Images (m, c, h, w), float32.
        calibration: One of `CALIBRATIONS`.
        percentile: Percentile of "percentile", in percent.
        layers: Layers whose ranges are read; None is every plain one.

    Returns:
        The range of each layer; a layer whose inputs are NaN or infinite for some image has such a range.
    """
    layers = [module for module in model.modules() if why_not_plain(module) is None] if layers is None else layers
    ranges: dict[nn.Module, Range] = {}

    def widen(module: nn.Module, values: Tensor) -> None:
        low, high = (float(value) for value in torch.aminmax(values))
        if module in ranges:
            earlier = ranges[module]
            low, high = float(np.minimum(low, earlier[0])), float(np.maximum(high, earlier[1]))  # NaN stays NaN
        ranges[module] = low, high

    _watch(model, images, layers, widen)
    if calibration == "min_max":
        return ranges
    of_size = calibration == "entropy"
    sound = [module for module, input_range in ranges.items() if np.isfinite(input_range).all()]
    counts = {module: np.zeros(BINS) for module in sound}

    def count(module: nn.Module, values: Tensor) -> None:
        low, high = _span(ranges[module], of_size)
        values = values.detach().float().abs() if of_size else values.detach().float()
        counts[module] += torch.histc(values.flatten().cpu(), BINS, low, high).double().numpy()

    _watch(model, images, sound, count)
    wide = {module: ranges[module] for module in sound if ranges[module][1] > ranges[module][0]}
    return ranges | {
        module: entropy_range(counts[module], input_range)
        if of_size
        else _percentile_range(counts[module], input_range, percentile)
        for module, input_range in wide.items()
    }


def _span(input_range: Range, of_size: bool) -> Range:
    """Ends of the histogram: of the values, or of their absolute values."""
    return (0.0, max(abs(input_range[0]), abs(input_range[1]))) if of_size else input_range


def _percentile_range(counts: NDArray[np.float64], input_range: Range, percentile: float) -> Range:
    """The edges of the bins between which the values lie, but for the rarest at either end."""
    edges = np.linspace(*input_range, BINS + 1)
    below = np.cumsum(counts) / counts.sum()
    share = percentile / 100
    first = int(np.searchsorted(below, 1 - share, side="right"))
    last = int(np.searchsorted(below, share - 1e-12))
    return float(edges[min(first, BINS - 1)]), float(edges[min(last, BINS - 1) + 1])


def entropy_range(counts: NDArray[np.float64], input_range: Range) -> Range:
    """The range clipped at the absolute value that loses least information.

    Args:
        counts: Histogram of absolute values, from 0 to the largest.
        input_range: Smallest and largest value.
    """
    low, high = input_range
    levels = 256 if low >= 0 or high <= 0 else 128
    counts = counts.copy()
    counts[0] = counts[1]
    if counts.sum() == 0:
        return input_range
    stops = range(levels, BINS + 1, _STRIDE)
    best = min(stops, key=lambda stop: (_divergence(counts, stop, levels), -stop))
    threshold = best / BINS * max(abs(low), abs(high))
    return max(low, -threshold), min(high, threshold)


def _divergence(counts: NDArray[np.float64], stop: int, levels: int) -> float:
    """KL divergence of what is clipped after `stop` bins from what `levels` levels make of these bins, in nats."""
    inside = counts[:stop]
    clipped = inside.copy()
    clipped[-1] += counts[stop:].sum()
    level = np.arange(stop) * levels // stop
    filled = inside > 0
    sums = np.bincount(level, inside, levels)
    shares = sums / np.maximum(np.bincount(level, filled, levels), 1)
    rebuilt = np.where(filled, shares[level], 0.0)
    if rebuilt.sum() == 0:
        return float("inf")
    p, q = clipped / clipped.sum(), rebuilt / rebuilt.sum()
    seen = p > 0
    # Where only clipped values fall, the levels have nothing to offer; a tiny share keeps the loss finite.
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-9))))


def _watch(
    model: nn.Module, images: Tensor, layers: Sequence[nn.Module], see: Callable[[nn.Module, Tensor], None]
) -> None:
    """Run the images and show the input of each of these layers."""

    def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
        see(module, unwrapped(args[0] if args else kwargs["input"]))

    handles = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]
    try:
        with inference(model):
            for batch in torch.split(images, _BATCH):
                model(batch)
    finally:
        for handle in handles:
            handle.remove()
