"""Fashion-MNIST: 70,000 images of 28x28 pixels in ten classes of clothing (Xiao et al. 2017, arXiv 1708.07747)."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nasbench.data.dataset import Data, make_data, stratified_parts
from nasbench.data.folders import fashion_files
from nasbench_registry import UserError

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
SPLIT_SEED = 0  # fixed, so that every experiment has the same validation images
VAL_IMAGES = 5_000


def fashion_mnist(*, train_images: int | None = None) -> Data:
    """The 10,000 test images of the paper; 5,000 of its training images validate.

    Args:
        train_images: use only this many training images, each class alike, for quick experiments.

    Raises:
        UserError: the files are not there, or `train_images` is out of range.
    """
    raw = [_read(file) for file in fashion_files()]
    images, test_images = raw[0][:, None], raw[2][:, None]
    labels, test_labels = raw[1].astype(np.int64), raw[3].astype(np.int64)
    val, rest = stratified_parts(labels, (VAL_IMAGES / len(labels),), SPLIT_SEED)
    if train_images is not None:
        if not 10 <= train_images <= len(rest):
            raise UserError(f"train_images={train_images} of 'fashion_mnist' must be from 10 to {len(rest)}.")
        rest = rest[stratified_parts(labels[rest], (train_images / len(rest),), SPLIT_SEED)[0]]
    train = (images[rest], labels[rest])
    return make_data("fashion_mnist", train, (images[val], labels[val]), (test_images, test_labels), CLASSES, white=255)


def _read(path: Path) -> npt.NDArray[np.uint8]:
    """An IDX file: two zero bytes, a type code, the number of dimensions, the sizes (big-endian), the bytes."""
    try:
        data = gzip.decompress(path.read_bytes())
        if data[:3] != b"\x00\x00\x08":
            raise ValueError("it does not begin as one")
        shape = tuple(np.frombuffer(data, ">u4", count=data[3], offset=4).astype(int))
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path} is not an IDX file of bytes ({error}); fetch it again.") from None
