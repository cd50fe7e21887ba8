"""Policies that change each image of a batch by operations of their own: RandAugment and TrivialAugment.

The operations and their ranges are those of torchvision, in which both papers' are usually run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

LEVELS = 30  # magnitudes go from 0 to this
GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
FACTORS = ("brightness", "color", "contrast", "sharpness")
OPERATIONS = ("identity", *GEOMETRIC, *FACTORS, "posterize", "solarize", "auto_contrast", "equalize")


@dataclass(frozen=True)
class Ranges:
    """The meaning of the largest magnitude.

    Attributes:
        shear: Tangent of the angle.
        translate: Share of the side of an image, or pixels where it is above 1.
        rotate: Angle in degrees.
        factor: Largest distance of a factor from 1.
        bits: Number of bits that posterizing takes away.
    """

    shear: float
    translate: float
    rotate: float
    factor: float
    bits: int


RAND_AUGMENT = Ranges(shear=0.3, translate=150 / 331, rotate=30, factor=0.9, bits=4)
"""Cubuk et al., RandAugment, NeurIPS 2020, arXiv 1909.13719."""
TRIVIAL_AUGMENT = Ranges(shear=0.99, translate=32, rotate=135, factor=0.99, bits=6)
"""Müller & Hutter, TrivialAugment, ICCV 2021, arXiv 2103.10158: its wide ranges."""


@dataclass(frozen=True)
class Changed:
    """A batch after a policy.

    Attributes:
        images: (n, c, h, w) images from 0 to 1.
        masks: (n, h, w) masks, or None where there are none.
    """

    images: Tensor
    masks: Tensor | None


@dataclass(frozen=True)
class Fill:
    """The values of pixels that come from outside of an image.

    Attributes:
        pixel: (c,) values from 0 to 1.
        label: Class of a pixel of a mask.
    """

    pixel: Tensor
    label: int


def rand_augment(batch: Changed, number: int, magnitude: int, fill: Fill, generator: torch.Generator) -> Changed:
    """`number` operations an image, one after the other, all of one magnitude; signs are by chance."""
    count = len(batch.images)
    for _ in range(number):
        chosen = torch.randint(len(OPERATIONS), (count,), generator=generator)
        batch = _change(batch, chosen, torch.full((count,), magnitude), RAND_AUGMENT, fill, generator)
    return batch


def trivial_augment(batch: Changed, fill: Fill, generator: torch.Generator) -> Changed:
    """One operation an image, of a magnitude by chance."""
    count = len(batch.images)
    chosen = torch.randint(len(OPERATIONS), (count,), generator=generator)
    magnitudes = torch.randint(LEVELS + 1, (count,), generator=generator)
    return _change(batch, chosen, magnitudes, TRIVIAL_AUGMENT, fill, generator)


def _change(
    batch: Changed, chosen: Tensor, magnitudes: Tensor, ranges: Ranges, fill: Fill, generator: torch.Generator
) -> Changed:
    """Each image by the operation that was chosen for it."""
    images, masks = batch.images.clone(), None if batch.masks is None else batch.masks.clone()
    signs = 2.0 * torch.randint(2, (len(chosen),), generator=generator) - 1
    for index, name in enumerate(OPERATIONS):
        rows = (chosen == index).nonzero()[:, 0]
        if name == "identity" or len(rows) == 0:
            continue
        level = (magnitudes[rows] / LEVELS).to(images.device)
        signed, on_device = level * signs[rows].to(images.device), rows.to(images.device)
        if name in GEOMETRIC:
            matrices = matrices_of(name, signed, ranges, images.shape[2:])
            images[on_device] = moved(images[on_device], matrices, fill.pixel)
            if masks is not None:
                masks[on_device] = moved_masks(masks[on_device], matrices, fill.label)
        else:
            images[on_device] = recolored(name, images[on_device], level, signed, ranges)
    return Changed(images, masks)


def matrices_of(name: str, signed: Tensor, ranges: Ranges, size: torch.Size) -> Tensor:
    """(n, 2, 3) of each image: where each pixel comes from, in pixels from the middle.

    Args:
        name: Name of an operation of `GEOMETRIC`.
        signed: (n,) shares of the largest magnitude, with a sign.
        ranges: Largest magnitude of each operation.
        size: Height and width.
    """
    matrices = torch.eye(2, 3, device=signed.device).repeat(len(signed), 1, 1)
    if name.startswith("shear"):
        row = 0 if name == "shear_x" else 1
        matrices[:, row, 1 - row] = signed * ranges.shear
    elif name.startswith("translate"):
        row, side = (0, size[1]) if name == "translate_x" else (1, size[0])
        matrices[:, row, 2] = signed * (ranges.translate if ranges.translate > 1 else ranges.translate * side)
    else:
        angle = torch.deg2rad(signed * ranges.rotate)
        matrices[:, 0, 0] = matrices[:, 1, 1] = angle.cos()
        matrices[:, 0, 1], matrices[:, 1, 0] = -angle.sin(), angle.sin()
    return matrices


def moved(images: Tensor, matrices: Tensor, pixel: Tensor) -> Tensor:
    """Images by bilinear interpolation from where `matrices` say; outside is `pixel` (c,)."""
    ground = pixel.to(images)[:, None, None]
    grid = _grid(matrices, images.shape[2:])
    return functional.grid_sample(images - ground, grid, padding_mode="zeros", align_corners=False) + ground


def moved_masks(masks: Tensor, matrices: Tensor, label: int) -> Tensor:
    """Masks (n, h, w) by the nearest pixel; outside is `label`."""
    grid = _grid(matrices, masks.shape[1:])
    shifted = (masks - label).float()[:, None]
    near = functional.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return near[:, 0].round().to(masks.dtype) + label


def _grid(matrices: Tensor, size: torch.Size) -> Tensor:
    """The grid of grid_sample, which counts from -1 to 1 across an image."""
    half = torch.tensor([size[1] / 2, size[0] / 2], device=matrices.device)
    scaled = torch.cat([matrices[:, :, :2] * half / half[:, None], matrices[:, :, 2:] / half[:, None]], 2)
    return functional.affine_grid(scaled, [len(matrices), 1, *size], align_corners=False)


def recolored(name: str, images: Tensor, level: Tensor, signed: Tensor, ranges: Ranges) -> Tensor:
    """Images (n, c, h, w) from 0 to 1 with other tones.

    Args:
        name: Name of an operation that moves no pixel.
        images: Images to change.
        level: (n,) shares of the largest magnitude.
        signed: The same shares with signs, for factors.
        ranges: Largest magnitude of each operation.
    """
    column = (-1, 1, 1, 1)
    if name in FACTORS:
        factor = (1 + signed * ranges.factor).reshape(column)
        return (factor * images + (1 - factor) * _BLANDEST[name](images)).clamp(0, 1)
    if name == "posterize":
        step = 2.0 ** (ranges.bits * level).round().reshape(column)
        return ((255 * images).round() / step).floor() * step / 255
    if name == "solarize":
        return torch.where(images >= (1 - level).reshape(column), 1 - images, images)
    if name == "auto_contrast":
        low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
        return torch.where(high > low, (images - low) / (high - low).clamp(min=1e-6), images)
    return equalized(images)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device, dtype=images.dtype)  # ITU-R BT.601
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def _smooth(images: Tensor) -> Tensor:
    """Each inner pixel the mean of its neighbours and five times itself."""
    channels = images.shape[1]
    kernel = torch.ones(3, 3, device=images.device, dtype=images.dtype)
    kernel[1, 1] = 5
    smoothed = images.clone()
    if min(images.shape[2:]) > 2:
        weight = (kernel / 13).expand(channels, 1, 3, 3)
        smoothed[:, :, 1:-1, 1:-1] = functional.conv2d(images, weight, groups=channels)
    return smoothed


_BLANDEST: dict[str, Callable[[Tensor], Tensor]] = {
    "brightness": torch.zeros_like,
    "color": lambda images: _grey(images).expand_as(images),
    "contrast": lambda images: _grey(images).mean((2, 3), keepdim=True).expand_as(images),
    "sharpness": _smooth,
}
"""Images that a factor of 0 gives."""


def equalized(images: Tensor) -> Tensor:
    """Each channel of each image with tones that are as frequent as each other, in 256 steps, as Pillow does it."""
    flat = (255 * images).round().long().clamp(0, 255).flatten(2).flatten(0, 1)
    counts = torch.zeros(len(flat), 256, device=images.device, dtype=torch.long)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    last = counts.gather(1, flat.amax(1, keepdim=True))
    step = (flat.shape[1] - last).div(255, rounding_mode="floor")
    before = counts.cumsum(1) - counts
    table = (before + step.div(2, rounding_mode="floor")).div(step.clamp(min=1), rounding_mode="floor").clamp(0, 255)
    return torch.where(step > 0, table.gather(1, flat), flat).reshape(images.shape).to(images.dtype) / 255
