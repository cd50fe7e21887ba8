"""Images with labels in three parts: training fits, validation chooses, test is read once, at the end."""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nasbench_registry import UserError
from search_spaces import Task

ROUNDING = 1e-9
"""How far apart numbers are that were only written in another unit and back."""

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Images (n, channels, height, width) as normalised float32, and labels (n,) as int64.

    Pickled as NumPy arrays: in Ray's object store these lie once per machine, and every worker reads the same memory.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __reduce__(self) -> tuple[Any, ...]:
        return _split, (self.images.numpy(), self.labels.numpy())

    def __len__(self) -> int:
        return len(self.labels)


def _split(images: Array, labels: Labels) -> Split:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes
        return Split(torch.from_numpy(images), torch.from_numpy(labels))


@dataclass(frozen=True)
class ImageData:
    """A data set in memory.

    Attributes:
        name: of the data set.
        train: what weights are fitted on.
        val: what every choice is made on.
        test: what is reported, read once.
        mean: subtracted from each channel; computed on `train`, in units of the raw images scaled to 0..1.
        std: what each channel is divided by, likewise.
        labels: the names of the classes.
        white: the raw pixel that is scaled to 1, such as 255; 1 where raw pixels are taken as they are.
    """

    name: str
    train: Split
    val: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]
    white: float = 1.0

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of all images, labels and class names: the same only for data that train the same networks."""
        digest = hashlib.sha256(repr((self.labels, self.mean, self.std)).encode())
        for part in (self.train, self.val, self.test):
            digest.update(repr(tuple(part.images.shape)).encode())
            for tensor in (part.images, part.labels):
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def normalised_by(self, mean: Sequence[float], std: Sequence[float]) -> ImageData:
        """The same images for a network that was trained on images with this mean and deviation, which it knows best.

        Args:
            mean: subtracted from each channel of images scaled to 0..1.
            std: what each channel is divided by.
        """
        if np.allclose(mean, self.mean, rtol=ROUNDING, atol=0) and np.allclose(std, self.std, rtol=ROUNDING, atol=0):
            return self
        factor = torch.tensor(self.std) / torch.tensor(tuple(std))
        shift = (torch.tensor(self.mean) - torch.tensor(tuple(mean))) / torch.tensor(tuple(std))

        def again(part: Split) -> Split:
            return Split(part.images * factor[:, None, None] + shift[:, None, None], part.labels)

        train, val, test = again(self.train), again(self.val), again(self.test)
        return replace(self, train=train, val=val, test=test, mean=tuple(mean), std=tuple(std))

    @property
    def task(self) -> Task:
        """The shape of an image and the number of classes."""
        channels, height, width = self.train.images.shape[1:]
        return Task((channels, height, width), len(self.labels))


def stratified_parts(labels: Labels, shares: tuple[float, ...], seed: int) -> list[npt.NDArray[np.int64]]:
    """Indices in parts of the given shares (the last part takes the rest), each class divided alike."""
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(len(shares) + 1)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = [round(len(members) * share) for share in np.cumsum(shares)]
        for part, chunk in zip(parts, np.split(members, cuts), strict=True):
            part.extend(chunk.tolist())
    return [rng.permutation(np.array(part, dtype=np.int64)) for part in parts]


def check_division(name: str, val_share: float, test_share: float, split_seed: int) -> None:
    """Raise UserError unless the options by which a user's images are divided make sense."""
    if min(val_share, test_share) <= 0 or val_share + test_share >= 1:
        raise UserError(f"val_share={val_share} and test_share={test_share} must be above 0 and sum to less than 1.")
    if split_seed < 0:
        raise UserError(f"split_seed={split_seed} of data set {name!r} must be 0 or more.")


def make_data(
    name: str,
    train: tuple[Array, Labels],
    val: tuple[Array, Labels],
    test: tuple[Array, Labels],
    labels: tuple[str, ...],
    *,
    white: float = 1.0,
) -> ImageData:
    """Normalise images scaled to 0..1 by the mean and deviation of the training images.

    Raises:
        UserError: a part is empty, a pixel is not finite, a label is outside 0..classes-1, there are fewer than two
            classes, or a class has no training image, so that nothing would train its output.
    """
    parts = {"training": train, "validation": val, "test": test}
    for part, (_, targets) in parts.items():
        if len(targets) == 0:
            raise UserError(f"data set {name!r} leaves no {part} images; use more images.")
        if targets.min() < 0 or targets.max() >= len(labels):
            raise UserError(
                f"data set {name!r} has {part} labels from {targets.min()} to {targets.max()}; with {len(labels)} "
                f"classes they must be from 0 to {len(labels) - 1}."
            )
    if len(labels) < 2:
        raise UserError(f"data set {name!r} has {len(labels)} class(es); a classification task needs 2 or more.")
    untrained = [labels[label] for label in np.setdiff1d(np.arange(len(labels)), train[1])]
    if untrained:
        raise UserError(
            f"data set {name!r} has no training image of {len(untrained)} of its {len(labels)} classes "
            f"({', '.join(untrained[:5])}{', ...' if len(untrained) > 5 else ''}), so nothing would train their "
            f"outputs; give each class more images, or leave it out."
        )
    broken = [~np.isfinite(images) for images, _ in parts.values()]
    pixels = sum(int(bad.sum()) for bad in broken)
    if pixels:
        count = sum(int(bad.any(axis=(1, 2, 3)).sum()) for bad in broken)
        total = sum(map(len, broken))
        raise UserError(
            f"data set {name!r} has {pixels:,} pixels in {count:,} of {total:,} images that are NaN or infinite, or "
            f"too large for float32; repair these images, or leave them out."
        )
    mean = train[0].mean(axis=(0, 2, 3), dtype=np.float64)
    std = np.maximum(train[0].std(axis=(0, 2, 3), dtype=np.float64), 1e-6)

    def normal(part: tuple[Array, Labels]) -> Split:
        scaled = (part[0] - mean[:, None, None]) / std[:, None, None]
        return Split(torch.from_numpy(scaled.astype(np.float32)), torch.from_numpy(part[1].astype(np.int64)))

    return ImageData(
        name, normal(train), normal(val), normal(test), tuple(mean.tolist()), tuple(std.tolist()), labels, white
    )
