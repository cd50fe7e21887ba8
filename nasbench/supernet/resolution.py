"""Images made smaller inside a network."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional


class AtResolution(nn.Module):
    """A network that computes with images of another resolution than it is given.

    Args:
        inside: Network that takes (n, c, size, size).
        size: Side in pixels.
    """

    INSIDE: ClassVar[str] = "inside"

    def __init__(self, inside: nn.Module, size: int) -> None:
        super().__init__()
        self.inside, self.size = inside, size

    def forward(self, images: Tensor) -> Tensor:
        """Bilinear interpolation of (n, c, h, w), then the network."""
        resized = functional.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False)
        outputs: Tensor = self.inside(resized)
        return outputs
