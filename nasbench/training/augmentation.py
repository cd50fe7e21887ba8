"""Random changes of training images, for a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nasbench.data.dataset import IGNORED
from nasbench.data.split import Inputs
from nasbench.training.config import AugmentationConfig

MASKS = 3  # axes of a batch of masks
Criterion = Callable[[Any, Any, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """Examples as a network takes them in training.

    Attributes:
        inputs: a tensor, or several.
        targets: of the same number of examples.
    """

    inputs: Inputs
    targets: torch.Tensor

    def parts(self, count: int) -> Iterator[tuple[Inputs, torch.Tensor]]:
        """So many parts, one after the other."""
        targets = self.targets.tensor_split(count)
        if isinstance(self.inputs, tuple):
            yield from zip(zip(*(each.tensor_split(count) for each in self.inputs), strict=True), targets, strict=True)
        else:
            yield from zip(self.inputs.tensor_split(count), targets, strict=True)

    def loss(self, criterion: Criterion, inputs: Inputs, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of some of the examples."""
        return criterion(inputs, outputs, targets)


def augmented(
    images: torch.Tensor, targets: torch.Tensor, config: AugmentationConfig, generator: torch.Generator
) -> Batch:
    """A batch of images, changed by chance.

    Masks, a class for each pixel, move with their images; pixels that come from outside are of class `IGNORED`. A
    square that is blanked in an image keeps its classes.
    """
    if targets.ndim != MASKS or not (config.crop or config.flip):
        return Batch(augment(images, config, generator), targets)
    # As one more channel, in which the zero of the padding stands for the class that counts nowhere.
    masks = (targets.to(images.dtype) - IGNORED)[:, None]
    moved = _shift_and_mirror(torch.cat([images, masks], 1), config, generator)
    changed = augment(moved[:, :-1], config.model_copy(update={"crop": 0, "flip": False}), generator)
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return Batch(changed.contiguous(memory_format=layout), (moved[:, -1] + IGNORED).to(targets.dtype))


def augment(images: torch.Tensor, config: AugmentationConfig, generator: torch.Generator) -> torch.Tensor:
    """Cut back to size at a random place after padding, then mirror left to right, then blank a square.

    Padding and blanks are zero, which is the mean of normalised images. The centre of the square may be any pixel, so
    that parts of it may lie outside, as in DeVries & Taylor 2017 (arXiv 1708.04552).

    Args:
        images: (n, c, h, w), on any device; left as they are.
        config: what is done; images are returned as they are if that is nothing.
        generator: of every random choice; if it is on the CPU, the choices are the same for every device.

    Returns:
        (n, c, h, w) on the device of `images`, channels-last if they are.
    """
    if not (config.crop or config.flip or config.cutout):
        return images
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    if config.crop or config.flip:
        images = _shift_and_mirror(images, config, generator)
    if config.cutout:
        images = _blank(images, config.cutout, generator)
    return images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _shift_and_mirror(images: torch.Tensor, config: AugmentationConfig, generator: torch.Generator) -> torch.Tensor:
    count, _, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(count, height)
    columns = torch.arange(width, device=images.device).expand(count, width)
    if config.flip:
        mirrored = _draw(2, images, generator).bool()
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    if config.crop:
        images = nn.functional.pad(images, [config.crop] * 4)
        rows = rows + _draw(2 * config.crop + 1, images, generator)[:, None]
        columns = columns + _draw(2 * config.crop + 1, images, generator)[:, None]
    numbers = torch.arange(count, device=images.device)
    # Indices on both sides of the channels put the channels last: (n, h, w, c).
    return images[numbers[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _blank(images: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    inside = []
    for length in images.shape[2:]:
        first = _draw(length, images, generator)[:, None] - side // 2
        place = torch.arange(length, device=images.device)
        inside.append((place >= first) & (place < first + side))
    return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)


def _draw(values: int, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A whole number from 0 to values - 1 for each image."""
    drawn = torch.randint(values, (len(images),), generator=generator, device=generator.device)
    return drawn.to(images.device, non_blocking=True)
