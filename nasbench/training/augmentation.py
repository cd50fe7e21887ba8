"""Random changes of training images, for a whole batch at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from nasbench.data.dataset import IGNORED, Kind
from nasbench.data.split import Inputs, Scale
from nasbench.training.config import AugmentationConfig
from nasbench.training.mixing import cutmix, mixup, share_of_first
from nasbench.training.policies import Changed, Fill, rand_augment, trivial_augment
from nasbench_registry import UserError

MASKS = 3  # axes of a batch of masks
Criterion = Callable[[Any, Any, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Targets:
    """The targets of some examples, and of those that are mixed into them, if any are."""

    first: torch.Tensor
    other: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Batch:
    """Examples as a network takes them in training.

    Attributes:
        inputs: Tensor, or several.
        targets: Targets of the same number of examples.
        others: Targets of the images that are mixed into these; None where none are.
        share: Share of `targets` in the loss; the rest is of `others`.
    """

    inputs: Inputs
    targets: torch.Tensor
    others: torch.Tensor | None = None
    share: float = 1.0

    def parts(self, count: int) -> Iterator[tuple[Inputs, Targets]]:
        """So many parts, one after the other."""
        first = self.targets.tensor_split(count)
        other = [None] * len(first) if self.others is None else self.others.tensor_split(count)
        targets = [Targets(*pair) for pair in zip(first, other, strict=True)]
        if isinstance(self.inputs, tuple):
            yield from zip(
                zip(*(tensor.tensor_split(count) for tensor in self.inputs), strict=True), targets, strict=True
            )
        else:
            yield from zip(self.inputs.tensor_split(count), targets, strict=True)

    def loss(self, criterion: Criterion, inputs: Inputs, outputs: Any, targets: Targets) -> torch.Tensor:
        """The mean loss of some of the examples: of both that an image is mixed of, by their shares."""
        value = criterion(inputs, outputs, targets.first)
        if targets.other is None:
            return value
        return self.share * value + (1 - self.share) * criterion(inputs, outputs, targets.other)


def check_augmentation(config: AugmentationConfig, images: bool, kind: Kind, scale: Scale | None = None) -> None:
    """Refuse what makes no sense for some data.

    Args:
        config: Augmentation that is asked for.
        images: Whether the data are images (n, c, h, w), and no rows, tokens, or several inputs.
        kind: Kind of the targets.
        scale: Scale of the inputs, which says whether they can be tones from 0 to 1.

    Raises:
        UserError: With the first key that does not fit.
    """
    requested = [key for key in type(config).model_fields if getattr(config, key) not in (0, False, None)]
    if requested and not images:
        raise UserError(f"training.augmentation.{requested[0]} changes images, and these data are none; leave it out.")
    fitting = {"mixup": ("classes",), "cutmix": ("classes", "masks")}
    for key in requested:
        if kind not in fitting.get(key, (kind,)):
            raise UserError(
                f"training.augmentation.{key} mixes images of two classes, and here "
                f"{'numbers are told' if kind == 'values' else 'each pixel has one of its own'}; leave it out."
            )
    if config.trivial_augment and config.rand_augment is not None:
        raise UserError(
            "training.augmentation has trivial_augment and rand_augment, which are two policies; leave one out."
        )
    policy = config.trivial_augment or config.rand_augment is not None
    # Numbers from 0 to 1 have a mean of 0 to 1 and deviate by a half at most.
    if policy and scale is not None and (min(scale.mean) < 0 or max(scale.mean) > 1 or max(scale.std) > 0.5):
        raise UserError(
            f"training.augmentation.{'trivial_augment' if config.trivial_augment else 'rand_augment'} changes tones "
            f"from 0 to 1, and these images have a mean of {max(scale.mean, key=abs):g} and a deviation of "
            f"{max(scale.std):g}; give bytes, or scale them to 0..1."
        )


def augmented(
    images: torch.Tensor,
    targets: torch.Tensor,
    config: AugmentationConfig,
    generator: torch.Generator,
    scale: Scale | None = None,
) -> Batch:
    """A batch of images, changed by chance: moved, by a policy, blanked, mixed, in this order.

    Masks, a class for each pixel, move with their images; pixels that come from outside are of class `IGNORED`. What
    is blanked in an image keeps its classes.

    Args:
        images: (n, c, h, w) images, normalised.
        targets: Classes, masks or values.
        config: Augmentation to apply.
        generator: Random generator of every random choice.
        scale: Scale by which they were normalised, for what changes tones; None takes them as they are from 0 to 1.
    """
    if not config.changes:
        return Batch(images, targets)
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    if targets.ndim == MASKS and (config.crop or config.flip):
        # As one more channel, in which the zero of the padding stands for the class that counts nowhere.
        masks = (targets.to(images.dtype) - IGNORED)[:, None]
        both = _shift_and_mirror(torch.cat([images, masks], 1), config, generator)
        images, targets = both[:, :-1], (both[:, -1] + IGNORED).to(targets.dtype)
    elif config.crop or config.flip:
        images = _shift_and_mirror(images, config, generator)
    if config.trivial_augment or config.rand_augment is not None:
        images, targets = _by_policy(images, targets, config, generator, scale)
    if config.cutout:
        images = _blank(images, config.cutout, generator)
    if config.erasing:
        images = _erase(images, config.erasing, generator)
    batch = _mixed(images, targets, config, generator)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert isinstance(batch.inputs, torch.Tensor), "images are one tensor"
    return replace(batch, inputs=batch.inputs.contiguous(memory_format=layout))


def augment(images: torch.Tensor, config: AugmentationConfig, generator: torch.Generator) -> torch.Tensor:
    """Images (n, c, h, w) as `augmented` changes each of them by itself; none is mixed with another."""
    alone = config.model_copy(update={"mixup": 0.0, "cutmix": 0.0})
    changed = augmented(images, torch.zeros(len(images), dtype=torch.int64), alone, generator).inputs
    assert isinstance(changed, torch.Tensor), "images are one tensor"
    return changed


def _by_policy(
    images: torch.Tensor,
    targets: torch.Tensor,
    config: AugmentationConfig,
    generator: torch.Generator,
    scale: Scale | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and targets after RandAugment or TrivialAugment, which see tones from 0 to 1.

    What comes from outside is the mean of the training images, which is zero when they are normalised.
    """
    shape = (1, -1, 1, 1)
    mean = torch.tensor((0.0,) if scale is None else scale.mean, device=images.device).reshape(shape)
    std = torch.tensor((1.0,) if scale is None else scale.std, device=images.device).reshape(shape)
    masks = targets if targets.ndim == MASKS else None
    before = Changed(images * std + mean, masks)
    fill = Fill(mean.flatten(), IGNORED)
    if config.rand_augment is not None:
        policy_options = config.rand_augment
        after = rand_augment(before, policy_options.number, policy_options.magnitude, fill, generator)
    else:
        after = trivial_augment(before, fill, generator)
    return (after.images - mean) / std, targets if after.masks is None else after.masks


def _mixed(
    images: torch.Tensor, targets: torch.Tensor, config: AugmentationConfig, generator: torch.Generator
) -> Batch:
    """Mixup or CutMix of a batch; with both, one of them by chance."""
    requested = [key for key in ("mixup", "cutmix") if getattr(config, key)]
    if not requested:
        return Batch(images, targets)
    key = requested[int(torch.randint(len(requested), (), generator=generator))]
    share = share_of_first(getattr(config, key), generator)
    order = torch.randperm(len(images), generator=generator).to(images.device)
    if key == "mixup":
        return Batch(mixup(images, order, share), targets, targets[order], share)
    mixed_images, is_other, share = cutmix(images, order, share, generator)
    if targets.ndim == MASKS:
        return Batch(mixed_images, torch.where(is_other, targets[order], targets))
    return Batch(mixed_images, targets, targets[order], share)


def _erase(images: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """A rectangle of some images is zero: 2 % to a third of the area, with sides of 0.3 to 3.3 to each other.

    Deviations: the paper fills it with random numbers, and draws again where it does not fit; here it is cut off.
    """
    count, _, height, width = images.shape
    area = (0.02 + (1 / 3 - 0.02) * torch.rand(count, generator=generator)) * height * width
    low, high = math.log(0.3), math.log(3.3)
    aspect = torch.exp(low + (high - low) * torch.rand(count, generator=generator))
    inside = []
    for length, side in ((height, (area * aspect).sqrt()), (width, (area / aspect).sqrt())):
        sides = side.round().clamp(1, length)
        first = (torch.rand(count, generator=generator) * (length - sides + 1)).floor()
        place = torch.arange(length)
        inside.append((place >= first[:, None]) & (place < (first + sides)[:, None]))
    blanked = inside[0][:, :, None] & inside[1][:, None, :]
    blanked &= (torch.rand(count, generator=generator) < share)[:, None, None]
    return images.masked_fill(blanked.to(images.device)[:, None], 0.0)


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
