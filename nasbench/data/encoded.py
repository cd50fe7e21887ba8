"""Images that stay in their files, and are decoded when a batch of them is taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from nasbench.data.decoding import Decoding, Pixels
from nasbench.data.on_disk import OnDisk, Rows
from nasbench_registry import UserError

IN_MEMORY_BYTES = 2**31
"""Bytes of decoded images in memory; more of them stay encoded on disk."""
SCALED_BY = 10_000
"""Images of which mean and deviation are taken, where all of them stay on disk."""


class Encoded(Protocol):
    """Images as they are stored."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, number: int) -> Path | bytes:
        """The file of one, or its bytes."""

    def name(self, number: int) -> str:
        """The name of an image, for errors."""

    def stamp(self, number: int) -> str:
        """A text that changes with the content of an image, as far as that is known without reading it."""


class Files:
    """Images in files of their own.

    Args:
        paths: Paths of the images.
        root: Folder of the data set, which does not count in `stamp`.
    """

    def __init__(self, paths: Sequence[Path], root: Path) -> None:
        self.root = str(root)
        self.paths = [str(path.relative_to(root)) for path in paths]  # a million of Path takes a gigabyte

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Path:
        return Path(self.root, self.paths[number])

    def name(self, number: int) -> str:
        """The path."""
        return str(self[number])

    def stamp(self, number: int) -> str:
        """The path and the size of the file."""
        return f"{self.paths[number]} {self[number].stat().st_size}"


class EncodedImages(OnDisk):
    """Images as bytes (n, channels, height, width), decoded by as many threads as torch has.

    Args:
        images: Images as they are stored.
        decoding: How they become pixels; more than eight bits are rounded.
        chosen: Numbers of the rows that belong to it, as in `OnDisk`.
    """

    def __init__(self, images: Encoded, decoding: Decoding, chosen: Rows | None = None) -> None:
        super().__init__(len(images), decoding.shape, "|u1", chosen)
        self.images, self.decoding = images, decoding

    def __reduce__(self) -> tuple[Any, ...]:
        return EncodedImages, (self.images, self.decoding, self._chosen)

    def _with(self, chosen: Rows) -> EncodedImages:
        return EncodedImages(self.images, self.decoding, chosen)

    def _read(self, rows: Rows) -> npt.NDArray[Any]:
        decoded = np.empty((len(rows), *self.decoding.shape), np.uint8)

        def decode(place: int, number: int) -> None:
            pixels = self.decoding(self.images[number], self.images.name(number))
            decoded[place] = pixels if pixels.dtype == np.uint8 else pixels.round()

        numbers = rows.tolist()
        threads = min(torch.get_num_threads(), max(1, len(numbers)))
        if threads == 1:
            for place, number in enumerate(numbers):
                decode(place, number)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(decode, range(len(numbers)), numbers))
        return decoded

    def representative(self) -> EncodedImages:
        """So many of them, evenly spread, that mean and deviation are soon known."""
        step = max(1, len(self) // SCALED_BY)
        return self if step == 1 else self.subset(np.arange(0, len(self), step))

    def fingerprint(self) -> Iterator[bytes]:
        """What is known of each image without decoding it."""
        numbers = range(len(self)) if self._chosen is None else self._chosen.tolist()
        for number in numbers:
            yield hashlib.sha256(self.images.stamp(number).encode()).digest()


def decoded_or_not(parts: Mapping[str, tuple[Encoded, Sequence[int]]], decoding: Decoding) -> dict[str, Any]:
    """Images and labels of each part: decoded in memory, or `EncodedImages` where that takes too much of it.

    Raises:
        UserError: Images cannot be read; how many, and why the first.
    """
    count = sum(len(images) for images, _ in parts.values())
    labels = {part: np.array(part_labels, dtype=np.int64) for part, (_, part_labels) in parts.items()}
    if count * int(np.prod(decoding.shape)) > IN_MEMORY_BYTES:
        return {part: (EncodedImages(images, decoding), labels[part]) for part, (images, _) in parts.items()}
    unreadable: list[UserError] = []
    decoded: dict[str, list[Pixels]] = {part: [] for part in parts}
    for part, (images, _) in parts.items():
        for number in range(len(images)):
            try:
                decoded[part].append(decoding(images[number], images.name(number)))
            except UserError as error:
                unreadable.append(error)
    if len(unreadable) > 1:
        raise UserError(f"{len(unreadable):,} of {count:,} images cannot be used; the first: {unreadable[0]}")
    if unreadable:
        raise unreadable[0]
    # One image with more than eight bits makes floating point numbers of all.
    deep = any(pixels.dtype != np.uint8 for pixels in (image for part in decoded.values() for image in part))
    kind = np.float32 if deep else np.uint8
    arrays = {}
    for part in list(decoded):
        pixels = decoded.pop(part)
        array = np.empty((len(pixels), *decoding.shape), kind)
        for place in range(len(pixels)):
            array[place], pixels[place] = pixels[place], array[place]  # gives the decoded one back at once
        arrays[part] = array, labels[part]
    return arrays
