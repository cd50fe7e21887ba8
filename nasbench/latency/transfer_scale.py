"""Scales on which latencies are modelled.

Latencies of layers add up, so a device that runs them one after the other is a sum on the plain scale; noise and
whatever runs at the same time are closer to shares of the latency, for which a logarithm is better. Which of the two
fits a new device, its measurements say.

A latency enters as u, a multiple of what is typical on its device; u = 1 is 0 on every scale, with slope 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """``(1 + shift) * log((u + shift) / (1 + shift))``; an infinite shift is the plain scale ``u - 1``.

    Attributes:
        shift: Positive number, so that a latency near zero is no outlier.
    """

    shift: float

    def forward(self, relative: Floats) -> Floats:
        """From multiples of the typical latency."""
        if math.isinf(self.shift):
            return relative - 1
        scaled: Floats = (1 + self.shift) * np.log((relative + self.shift) / (1 + self.shift))
        return scaled

    def backward(self, scaled: Floats) -> Floats:
        """To multiples of the typical latency."""
        if math.isinf(self.shift):
            return scaled + 1
        relative: Floats = (1 + self.shift) * np.exp(scaled / (1 + self.shift)) - self.shift
        return relative

    def slope(self, relative: Floats) -> Floats:
        """The slope of `forward`."""
        if math.isinf(self.shift):
            return np.ones_like(relative)
        slope: Floats = (1 + self.shift) / (relative + self.shift)
        return slope


SCALES = (Scale(1.0), Scale(math.inf))
