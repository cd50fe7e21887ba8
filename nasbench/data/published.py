"""Image sets that are published as a training and a test part of bytes: of the training part, some images validate."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from nasbench.data.dataset import Data, make_data, stratified_parts
from nasbench_registry import UserError

SPLIT_SEED = 0  # fixed, so that every experiment has the same validation images
VAL_IMAGES = 5_000
RESIZED_AT_ONCE = 1_000

Bytes = npt.NDArray[np.uint8]


def published_data(
    name: str,
    train: tuple[Bytes, Bytes],
    test: tuple[Bytes, Bytes],
    classes: Sequence[str],
    *,
    train_images: int | None = None,
    val_images: int | None = None,
    size: int | None = None,
) -> Data:
    """A data set of bytes with 5,000 of its training images, or a tenth of fewer than 50,000, for validation.

    Args:
        name: Name of the data set.
        train: Training images (n, c, h, w) and labels (n,).
        test: Test images and labels, likewise.
        classes: Names of the classes.
        train_images: Use only this many training images, each class alike, for quick experiments.
        val_images: Use only this many validation images, each class alike, which is as much faster and less exact.
        size: Height and width that images are resized to; None leaves them.

    Raises:
        UserError: An option is out of range.
    """
    images, labels = train[0], train[1].astype(np.int64)
    val, train_rows = stratified_parts(labels, (min(VAL_IMAGES / len(labels), 0.1),), SPLIT_SEED)

    def fewer(rows: npt.NDArray[np.int64], option: str, count: int | None) -> npt.NDArray[np.int64]:
        if count is None:
            return rows
        if not len(classes) <= count <= len(rows):
            raise UserError(f"{option}={count} of data set {name!r} must be from {len(classes)} to {len(rows)}.")
        return rows[stratified_parts(labels[rows], (count / len(rows),), SPLIT_SEED)[0]]

    train_rows, val = fewer(train_rows, "train_images", train_images), fewer(val, "val_images", val_images)
    if size is not None and not 1 <= size <= 1024:
        raise UserError(f"size={size} of data set {name!r} must be from 1 to 1024 pixels.")
    parts = ((images[train_rows], labels[train_rows]), (images[val], labels[val]), (test[0], test[1].astype(np.int64)))
    sized_train, sized_val, sized_test = ((resized(pixels, size), targets) for pixels, targets in parts)
    return make_data(name, sized_train, sized_val, sized_test, classes, white=255)


def resized(images: Bytes, size: int | None) -> Bytes:
    """Square images (n, c, size, size) of bytes, by bilinear interpolation with antialiasing; None leaves them."""
    if size is None or images.shape[2:] == (size, size):
        return images
    resized_images = np.empty((*images.shape[:2], size, size), np.uint8)
    for start in range(0, len(images), RESIZED_AT_ONCE):
        chunk = torch.from_numpy(images[start : start + RESIZED_AT_ONCE].astype(np.float32))
        larger = functional.interpolate(chunk, (size, size), mode="bilinear", antialias=True)
        resized_images[start : start + RESIZED_AT_ONCE] = larger.round().clamp(0, 255).byte().numpy()
    return resized_images


def read_idx(path: Path) -> Bytes:
    """An IDX file: two zero bytes, a type code, the number of dimensions, the sizes (big-endian), the bytes.

    Raises:
        UserError: It is none.
    """
    try:
        data = gzip.decompress(path.read_bytes())
        if data[:3] != b"\x00\x00\x08":
            raise ValueError("it does not begin as one")
        shape = tuple(np.frombuffer(data, ">u4", count=data[3], offset=4).astype(int))
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path} is not an IDX file of bytes ({error}); fetch it again.") from None


def idx_data(name: str, files: Sequence[Path], classes: Sequence[str], **options: int | None) -> Data:
    """A data set of four IDX files: training images and labels, test images and labels; see `published_data`."""
    images, labels, test_images, test_labels = (read_idx(file) for file in files)
    return published_data(name, (images[:, None], labels), (test_images[:, None], test_labels), classes, **options)


def read_records(path: Path, labels: int) -> tuple[Bytes, Bytes]:
    """Images (n, 3, 32, 32) and labels (n,) of a file of CIFAR's binary version.

    Args:
        path: File of records: label bytes, then a red, a green and a blue plane of 32 x 32 bytes.
        labels: Number of bytes of labels in a record, of which the last one counts.

    Raises:
        UserError: It cannot be read, or is no whole number of records.
    """
    size = labels + 3 * 32 * 32
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); fetch it again.") from None
    if len(data) == 0 or len(data) % size:
        raise UserError(f"{path} has {len(data):,} bytes, and not records of {size}; fetch it again.")
    records = data.reshape(-1, size)
    return records[:, labels:].reshape(-1, 3, 32, 32), records[:, labels - 1]
